"""The training loop on every rank: engine, data, resuming, stopping, rollbacks.

Imports corpus, launcher.failure, launcher.huggingface, launcher.run,
launcher.training.callbacks, launcher.training.figures, models, parallel.
Imported by launcher, launcher.commands.
"""
