"""How fast a checkpoint is written and converted, and how long training waits for it.

Imports benchmarks, benchmarks.trainers, corpus, launcher, models, parallel.
Imported by nothing.
"""
