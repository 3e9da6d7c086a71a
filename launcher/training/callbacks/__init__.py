"""Everything around the training loop: metrics, checkpoints, evaluation, watchdog; a callback each.

Imports launcher.failure, launcher.run, parallel.
Imported by launcher.training.
"""
