"""Text to tokens to samples; overlap with benchmarks.

Words: a *source* is a kind of text with a weight, a *record* a document or a part of a long one,
a *unit* what one process reads at a time, *held out* what validation reads and training never does.

Imports corpus.contamination, corpus.formats, corpus.prepare, corpus.sources, corpus.store.
Imported by launcher.
"""
