"""What is planned: the job, the machine, and constants fitted on published runs.

Imports models, parallel, parallel.engines.
Imported by launcher, parallel.planner, parallel.planner.memory, parallel.planner.report,
parallel.planner.timing.
"""
