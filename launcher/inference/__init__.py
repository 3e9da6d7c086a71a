"""Distributed generation and evaluation with a run, a checkpoint or a Hugging Face folder.

Imports corpus, evals, launcher.huggingface, launcher.run, launcher.start, models, parallel.
Imported by launcher, launcher.commands.
"""
