"""Prepared text on disk: token files, the cache of corpora, atomic writes.

Imports nothing of ours but configs.
Imported by corpus, corpus.contamination, corpus.dataset, corpus.machine, corpus.prepare, launcher.
"""
