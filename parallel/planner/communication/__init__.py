"""Collectives of every rank by group, count and bytes, under each engine.

Imports models, parallel, parallel.engines, parallel.engines.deepspeed.
Imported by launcher, parallel.planner, parallel.planner.report, parallel.planner.timing,
parallel.planner.trace.
"""
