"""Byte-level BPE: vocabularies, training one, encoding in parallel.

Imports nothing of ours but configs.
Imported by corpus.prepare, evals, launcher.
"""
