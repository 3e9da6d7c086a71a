"""The layers for inference, with their KV cache.

Imports models, models.ops.
Imported by parallel.
"""
