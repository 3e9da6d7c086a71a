"""Attention over a sequence that is split over the ranks of a context group.

Imports models, models.ops, models.ops.attention.
Imported by models.training, parallel.
"""
