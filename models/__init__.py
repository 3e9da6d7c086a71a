"""The network: its shape, its parameters, how its weights begin, what it costs.

Imports nothing of ours but configs.
Imported by evals, launcher, models.decoding, models.training, parallel.
"""
