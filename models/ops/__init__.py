"""Operations shared by training and inference: attention, cross-entropy, GELU, linears.

Imports nothing of ours but configs.
Imported by launcher, models.decoding, models.training, parallel.
"""
