"""Samples of a prepared corpus by global number: epochs, shuffles, the weighted mixture.

Imports corpus.store.
Imported by launcher.
"""
