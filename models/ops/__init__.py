"""Operations that training and inference share: attention, cross-entropy, GELU, linears.

Imports nothing of ours but configs.
Imported by models.decoding, models.training, parallel.
"""
