"""engine=deepspeed: DeepSpeed's pipeline and ZeRO over the same layers.

Imports models, parallel, parallel.engines, parallel.engines.megatron, parallel.runtime.
Imported by parallel.planner.communication, parallel.planner.memory.
"""
