"""How a model is distributed over ranks: the Layout and what follows from it, batch and learning
rate schedules, parity.

Imports models.
Imported by launcher, parallel.engines, parallel.engines.deepspeed, parallel.engines.megatron,
parallel.inference, parallel.planner, parallel.planner.communication, parallel.planner.inputs,
parallel.planner.memory, parallel.planner.report, parallel.planner.schedule,
parallel.planner.timing, parallel.planner.trace, parallel.rules, parallel.runtime.
"""
