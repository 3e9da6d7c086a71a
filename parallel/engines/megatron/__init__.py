"""engine=megatron: Megatron-core's schedules and optimizer over our layers.

Imports models, parallel, parallel.engines, parallel.runtime.
Imported by launcher, parallel.engines.deepspeed, parallel.planner.trace.
"""
