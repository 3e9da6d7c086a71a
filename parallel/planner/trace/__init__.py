"""The engines' own code on tensors without memory, in a world of any size.

Imports models, parallel, parallel.engines, parallel.planner.communication, parallel.runtime.
Imported by launcher, parallel.planner.report.
"""
