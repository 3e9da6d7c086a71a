"""Text to tokens to samples; overlap with benchmarks.

Terms: a *source* is a kind of text with a weight, a *record* a document or a part of a long one,
a *unit* what one process reads at a time, *held out* text is read by validation, never by training.

Imports corpus.contamination, corpus.formats, corpus.prepare, corpus.sources, corpus.store.
Imported by launcher.
"""
