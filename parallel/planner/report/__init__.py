"""A plan as JSON, as an HTML page, as a timeline; GPT-3's published figures beside it.

Imports models, parallel, parallel.planner, parallel.planner.communication, parallel.planner.inputs,
parallel.planner.memory, parallel.planner.timing, parallel.planner.trace.
Imported by launcher.
"""
