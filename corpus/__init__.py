"""Text to tokens to samples.

`corpus.sources` says which files a corpus consists of, `corpus.formats` reads them and
`corpus.machine` makes the default ones; `corpus.prepare` turns them into a folder of token files;
`corpus.mixture` reads global samples from these by number; `corpus.decontaminate` compares text
with benchmarks. Words: a *source* is a kind of text with a weight, a *record* a document or a part
of a long one, a *unit* what one process reads at a time, *held out* what validation reads and
training never does.
"""
