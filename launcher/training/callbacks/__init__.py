"""What is not the training loop: metrics, checkpoints, evaluation, watching, a callback each.

Imports launcher.failure, launcher.run, parallel.
Imported by launcher.training.
"""
