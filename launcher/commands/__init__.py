"""A file for each `phalanx COMMAND`: what it checks, does and shows.

Imports corpus, evals, launcher.command_line, launcher.console, launcher.failure,
launcher.inference, launcher.run, launcher.start, launcher.training, models, parallel, slurm.
Imported by launcher.
"""
