"""The interface to SLURM: the batch script, submission, environment, restarts.

Imports nothing of ours but configs.
Imported by launcher.
"""
