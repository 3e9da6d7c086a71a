"""Shapes of what other decoders differ in from GPT-3, and the layouts they are trained under."""

from __future__ import annotations

from dataclasses import replace

from configs.schema import ContextBy, Precision, Recompute, Schedule
from configs.settings.network import (
    AttentionPattern,
    Biases,
    Mlp,
    Norm,
    Positions,
    QkNorm,
    Residual,
    RopeScaling,
    RotaryConfig,
)
from models.shape import ModelShape
from parallel.layout import Layout

# A head's width that hidden does not give, and half as many groups as heads.
LLAMA = ModelShape(
    layers=4,
    hidden=32,
    heads=4,
    query_groups=2,
    head_width=16,
    feed_forward=48,
    context=16,
    vocab=130,
    attention=AttentionPattern.dense,
    window=5,
    positions=Positions.rotary,
    norm=Norm.rms,
    mlp=Mlp.swiglu,
    biases=Biases.none,
    tied=False,
)
QWEN3 = replace(LLAMA, qk_norm=QkNorm.head, rotary=RotaryConfig(base=1e6), tied=True)
QWEN2 = replace(LLAMA, biases=Biases.qkv)
NEOX = replace(
    LLAMA,
    query_groups=4,
    norm=Norm.layer,
    mlp=Mlp.gelu_exact,
    biases=Biases.all,
    residual=Residual.parallel,
    rotary=RotaryConfig(fraction=1 / 4),
)
# Norms behind small outputs magnify what sums in another order differ by; this epsilon bounds it.
OLMO = replace(LLAMA, residual=Residual.post_norm, qk_norm=QkNorm.full, norm_epsilon=1e-3)
EVERYTHING = replace(
    LLAMA,
    biases=Biases.all,
    mlp=Mlp.geglu,
    qk_norm=QkNorm.head,
    residual=Residual.parallel,
    attention=AttentionPattern.periodic,
    dense_every=2,
    rotary=RotaryConfig(fraction=3 / 4, scaling=RopeScaling.yarn, factor=4.0, original_context=8),
    logit_softcap=20.0,
)
NAMES = {
    LLAMA: "llama",
    QWEN3: "qwen3",
    QWEN2: "qwen2",
    NEOX: "neox",
    OLMO: "olmo",
    EVERYTHING: "everything",
}

# Three ranks, for which GPT-3's and Llama's vocabularies need more padding.
THREE = replace(LLAMA, heads=6, query_groups=3, hidden=24, feed_forward=36)
NAMES[THREE] = "three"

FULL = Recompute.full
RING, GATHER, EXCHANGE = ContextBy.ring, ContextBy.gather, ContextBy.exchange
MEGATRON: list[tuple[ModelShape, Layout]] = [
    (LLAMA, Layout(tensor=2, micro_batch=4)),
    (LLAMA, Layout(tensor=2, data=2, zero=1, micro_batch=2, sequence_parallel=True)),
    (LLAMA, Layout(pipeline=2, interleave=2, micro_batch=2, recompute=Recompute.selective)),
    (THREE, Layout(tensor=3, micro_batch=4)),
    (QWEN3, Layout(tensor=2, pipeline=2, micro_batch=2)),
    (QWEN3, Layout(tensor=2, micro_batch=4, sequence_parallel=True, recompute=FULL)),
    (QWEN2, Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True)),
    (QWEN2, Layout(pipeline=2, stage_layers=(3, 1), micro_batch=2)),
    (NEOX, Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True)),
    (NEOX, Layout(pipeline=2, interleave=2, micro_batch=2, recompute=FULL)),
    (OLMO, Layout(tensor=2, data=2, zero=1, micro_batch=2, sequence_parallel=True)),
    (EVERYTHING, Layout(tensor=2, pipeline=2, data=2, zero=1, micro_batch=1)),
    (LLAMA, Layout(context=4, context_by=RING, micro_batch=4)),
    (LLAMA, Layout(context=2, context_by=EXCHANGE, pipeline=2, micro_batch=2)),
    (LLAMA, Layout(context=2, context_by=GATHER, pipeline=2, interleave=2, micro_batch=2)),
    (OLMO, Layout(tensor=2, context=2, context_by=GATHER, micro_batch=4, sequence_parallel=True)),
    (EVERYTHING, Layout(tensor=2, context=2, context_by=RING, micro_batch=4, zero=1)),
]
DEEPSPEED: list[tuple[ModelShape, Layout]] = [
    (LLAMA, Layout(tensor=2, micro_batch=4)),
    (LLAMA, Layout(tensor=2, data=2, micro_batch=2, zero=3, sequence_parallel=True)),
    (LLAMA, Layout(pipeline=2, micro_batch=2, schedule=Schedule.dualpipev)),
    (QWEN3, Layout(tensor=2, data=2, micro_batch=2, zero=2)),
    (QWEN3, Layout(tensor=2, pipeline=2, micro_batch=2)),
    (QWEN2, Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True)),
    (NEOX, Layout(tensor=2, micro_batch=4, sequence_parallel=True, recompute=FULL)),
    (NEOX, Layout(pipeline=2, data=2, micro_batch=1, zero=1)),
    (OLMO, Layout(tensor=2, data=2, micro_batch=2, zero=3, recompute=FULL)),
    (EVERYTHING, Layout(tensor=2, pipeline=2, micro_batch=2, sequence_parallel=True)),
    (LLAMA, Layout(context=2, context_by=EXCHANGE, data=2, micro_batch=2, zero=1)),
    (
        LLAMA,
        Layout(context=2, context_by=RING, pipeline=2, micro_batch=2, schedule=Schedule.dualpipev),
    ),
]
HALF: list[tuple[ModelShape, Layout, Precision]] = [
    (LLAMA, Layout(micro_batch=2, tensor=2, data=2, zero=1), Precision.bf16),
    (EVERYTHING, Layout(micro_batch=2, tensor=2, pipeline=2), Precision.fp16),
    (LLAMA, Layout(micro_batch=4, context=2, context_by=RING, zero=1), Precision.bf16),
]
