"""The dry run: what a layout costs in memory, traffic, time and money, before anything is queued.

Needs no torch but in `trace`, which executes the engines' own code.

Imports models, parallel, parallel.engines, parallel.planner.communication, parallel.planner.inputs,
parallel.planner.memory, parallel.planner.timing, parallel.rules.
Imported by launcher, parallel.planner.report.
"""
