"""Seconds of a step: kernels, links, layers, and the schedule simulated pass by pass.

Imports models, parallel, parallel.planner.communication, parallel.planner.inputs,
parallel.planner.schedule.
Imported by parallel.planner, parallel.planner.report.
"""
