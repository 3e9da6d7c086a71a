"""A run on disk and before it starts: its directory, owner, settings, rank count and corpus.

Imports corpus, launcher.huggingface, models, parallel, slurm.
Imported by launcher, launcher.command_line, launcher.commands, launcher.console, launcher.failure,
launcher.inference, launcher.planning, launcher.start, launcher.training,
launcher.training.callbacks, launcher.training.figures.
"""
