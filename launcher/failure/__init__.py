"""What is known of ranks that failed: status, step, collective, and the report of all of them.

Imports launcher.run, parallel, slurm.
Imported by launcher, launcher.commands, launcher.start, launcher.training,
launcher.training.callbacks.
"""
