"""Everything around the training loop: metrics, checkpoints, evaluation, watchdog; a callback each.

Imports launcher.failure, launcher.run, models, parallel.
Imported by launcher.training, launcher.training.figures.
"""
