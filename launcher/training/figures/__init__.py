"""Pictures of a run, drawn from its files when it ends.

Imports launcher.run, launcher.training.callbacks, parallel.engines.
Imported by launcher.training.
"""
