"""What runs a training step: the interface, and what all engines share.

Imports models, parallel.
Imported by launcher, parallel.checkpoint, parallel.engines.deepspeed, parallel.engines.megatron,
parallel.inference, parallel.planner, parallel.planner.communication, parallel.planner.inputs,
parallel.planner.trace, parallel.rules.
"""
