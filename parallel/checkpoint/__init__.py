"""Layout-independent checkpoints: written asynchronously, verified, published, resharded.

Imports models, parallel.engines.
Imported by launcher.
"""
