"""A model without an engine, under tensor x pipeline: logits and tokens out.

Imports models, parallel, parallel.engines, parallel.runtime.
Imported by evals, launcher.
"""
