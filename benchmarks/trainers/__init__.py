"""A training step beside plain PyTorch and other trainers.

Imports benchmarks, launcher, models, parallel.
Imported by benchmarks.checkpoint.
"""
