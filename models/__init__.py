"""The network: its shape, parameters, initial weights and FLOPs.

Imports nothing of ours but configs.
Imported by evals, launcher, models.decoding, models.huggingface, models.training,
models.training.context, parallel.
"""
