"""Document filters: the quality classifier and fuzzy deduplication.

Imports nothing of ours but configs.
Imported by corpus.prepare.
"""
