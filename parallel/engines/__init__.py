"""Training engines: the interface, and code shared by all engines.

Imports models, parallel, parallel.runtime.
Imported by launcher, parallel.checkpoint, parallel.engines.deepspeed, parallel.engines.megatron,
parallel.inference, parallel.planner, parallel.planner.communication, parallel.planner.inputs,
parallel.planner.trace, parallel.rules.
"""
