"""A training step beside plain PyTorch and other trainers.

Imports benchmarks, benchmarks.trainers.others, launcher, models, parallel.
Imported by benchmarks.checkpoint.
"""
