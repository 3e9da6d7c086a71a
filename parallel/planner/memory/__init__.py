"""Bytes of every stage's ranks by category, under each engine.

Imports models, parallel, parallel.engines.deepspeed, parallel.planner.inputs,
parallel.planner.schedule.
Imported by launcher, parallel.planner, parallel.planner.report.
"""
