"""Checkpoints that know no layout: written beside training, verified, published, resharded.

Imports models, parallel.engines.
Imported by launcher.
"""
