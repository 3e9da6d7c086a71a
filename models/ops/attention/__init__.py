"""Core attention as an operation: dense, banded, and cut into pieces of its scores.

Imports models.ops.
Imported by launcher, models.decoding, models.training, models.training.context, parallel.
"""
