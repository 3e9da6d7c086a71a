"""Runs the engines' own code on fake tensors, in a world of any size.

Imports models, parallel, parallel.engines, parallel.engines.megatron,
parallel.planner.communication, parallel.runtime.
Imported by launcher, parallel.planner.report.
"""
