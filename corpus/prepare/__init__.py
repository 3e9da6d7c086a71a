"""`phalanx prepare`: scan, select, tokenise, publish, in parallel and going on where it was killed.

Imports corpus.contamination, corpus.filters, corpus.formats, corpus.sources, corpus.store,
corpus.tokenizer.
Imported by corpus, launcher.
"""
