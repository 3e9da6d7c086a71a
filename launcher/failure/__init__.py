"""Diagnosis of failed ranks: status, step, collective, and the combined failure report.

Imports launcher.run, parallel, slurm.
Imported by launcher, launcher.commands, launcher.start, launcher.training,
launcher.training.callbacks.
"""
