"""A run on disk and before its start: its directory, owner, settings, ranks and corpus.

Imports corpus, models, parallel, slurm.
Imported by launcher, launcher.command_line, launcher.commands, launcher.console, launcher.failure,
launcher.inference, launcher.start, launcher.training, launcher.training.callbacks.
"""
