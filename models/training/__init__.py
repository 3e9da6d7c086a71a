"""The trainable layers, as one module and as a list for pipelines.

Imports models, models.ops.
Imported by parallel.
"""
