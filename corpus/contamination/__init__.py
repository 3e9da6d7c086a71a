"""13-gram overlap between training text and benchmarks, after appendix C of Brown et al. (2020).

Imports corpus.sources, corpus.store.
Imported by corpus, corpus.prepare, launcher.
"""
