"""Text to tokens to samples.

`corpus.prepare` turns text into a folder of token files and a tokenizer, once; `corpus.samples`
reads global samples from them by number; `corpus.tokenizer` encodes and decodes. Words: a
*document* is one file (or manual page), a *piece* is a stretch of one document small enough to be
held in memory, *held out* is what validation reads and training never does.
"""
