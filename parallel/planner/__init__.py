"""The planner: predicts a layout's memory, traffic, time and cost before anything is queued.

Needs no torch except in `trace`, which runs the engines' own code.

Imports models, parallel, parallel.engines, parallel.planner.communication, parallel.planner.inputs,
parallel.planner.memory, parallel.planner.timing, parallel.rules.
Imported by launcher, parallel.planner.report.
"""
