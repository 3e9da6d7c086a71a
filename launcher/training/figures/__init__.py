"""Pictures of a run, drawn from its files when it ends.

Imports launcher.run, launcher.training.callbacks, models.
Imported by launcher.training.
"""
