"""The layers for inference, with their KV cache.

Imports models, models.ops, models.ops.attention.
Imported by parallel.
"""
