"""The files that a corpus consists of, and the units that they are read in.

Imports corpus.formats, corpus.machine.
Imported by corpus, corpus.contamination, corpus.prepare, evals, launcher.
"""
