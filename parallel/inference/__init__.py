"""Inference without an engine, under tensor x pipeline: logits and tokens.

Imports models, parallel, parallel.engines, parallel.runtime.
Imported by evals, launcher.
"""
