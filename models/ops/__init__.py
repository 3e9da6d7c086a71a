"""Operations shared by training and inference: cross-entropy, GELU, linears.

Imports nothing of ours but configs.
Imported by models.decoding, models.ops.attention, models.training, models.training.context.
"""
