"""Launchers that start ranks: locally, by torchrun, by SLURM; the process group they join.

Imports launcher.console, launcher.failure, launcher.run, parallel, slurm.
Imported by launcher, launcher.commands, launcher.inference.
"""
