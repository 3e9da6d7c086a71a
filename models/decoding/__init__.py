"""The layers for inference, with their cache of keys and values.

Imports models, models.ops.
Imported by parallel.
"""
