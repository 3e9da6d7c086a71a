"""The same models written by others' means: plain PyTorch, its own parallelism, transformers,
picotron.

Imports models, parallel.
Imported by benchmarks.trainers.
"""
