"""Pictures of a run, drawn from its files when it ends.

Imports launcher.run, launcher.training.callbacks, models.training.
Imported by launcher.training.
"""
