"""Reads records from files of text, JSONL or WARC, plain or compressed.

Imports nothing of ours but configs.
Imported by corpus, corpus.machine, corpus.prepare, corpus.sources.
"""

from corpus.formats.reading import ending_of, format_of, read, splittable
from corpus.formats.text import PART

__all__ = ["PART", "ending_of", "format_of", "read", "splittable"]
