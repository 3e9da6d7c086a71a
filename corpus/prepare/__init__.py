"""`phalanx prepare`: scan, select, tokenise, publish; parallel, and resumable after a kill.

Imports corpus.contamination, corpus.filters, corpus.formats, corpus.sources, corpus.store,
corpus.tokenizer.
Imported by corpus, launcher.
"""
