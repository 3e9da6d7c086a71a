"""The trainable layers, as one module and as a list for pipelines.

Imports models, models.ops, models.ops.attention, models.training.context.
Imported by launcher, parallel.
"""
