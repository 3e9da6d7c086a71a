"""Which documents are kept: the quality classifier and fuzzy deduplication.

Imports nothing of ours but configs.
Imported by corpus.prepare.
"""
