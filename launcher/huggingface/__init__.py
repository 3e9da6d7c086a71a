"""Folders in Hugging Face's formats: read, written, and trained on from.

Imports corpus, models, parallel.
Imported by launcher, launcher.commands, launcher.inference, launcher.run,
launcher.training.
"""
