"""The layers that engines train, as one module and as a list for pipelines.

Imports models, models.ops.
Imported by parallel.
"""
