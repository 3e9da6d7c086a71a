"""How fast a checkpoint is written, and how long training waits for it.

Imports benchmarks, benchmarks.trainers, launcher, models, parallel.
Imported by nothing.
"""
