"""The order of forward and backward passes of every pipeline schedule.

Imports parallel.
Imported by parallel.planner.memory, parallel.planner.timing.
"""
