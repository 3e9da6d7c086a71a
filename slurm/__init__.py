"""What SLURM is told and what it tells: the batch script, submission, environment, restarts.

Imports nothing of ours but configs.
Imported by launcher.
"""
