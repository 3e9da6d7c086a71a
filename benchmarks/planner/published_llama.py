"""Rows of llama.jsonl as shapes, layouts and step times: what their columns mean.

Beyond the columns of older tables they have query groups, the width of the MLP, context and expert
degrees. Where a source does not say how many samples a step had, it is one micro-batch of each data
rank, or as many as its notes say: tokens a second then give the step.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from configs.schema import ContextBy, Recompute
from configs.settings.network import (
    AttentionPattern,
    Biases,
    Mlp,
    MoeConfig,
    Norm,
    Positions,
    QkNorm,
)
from models.shape import ModelShape
from parallel.layout import Layout

Row = dict[str, Any]

# By their published configurations; the table states none.
VOCABULARIES = {"Llama 2": 32_000, "Llama 3": 128_256}
LLAMA = ModelShape(
    layers=1,
    hidden=1,
    heads=1,
    context=1,
    vocab=1,
    attention=AttentionPattern.dense,
    window=0,
    positions=Positions.rotary,
    norm=Norm.rms,
    mlp=Mlp.swiglu,
    biases=Biases.none,
    tied=False,
)
QWEN3_30B_A3B = replace(
    LLAMA,
    layers=48,
    hidden=2048,
    heads=32,
    query_groups=4,
    head_width=128,
    feed_forward=6144,
    vocab=151_936,
    qk_norm=QkNorm.head,
    moe=MoeConfig(experts=128, top_k=8, feed_forward=768),
)
_LOCAL_BATCH = re.compile(r"local batch (\d+)")


def is_of_today(row: Row) -> bool:
    """Whether a row has this table's columns."""
    return "model" in row


def shape_of(row: Row) -> ModelShape:
    """The network of a row."""
    if row["layers"] is None:  # its source names the model alone
        assert "Qwen3 30B" in row["model"].replace("-", " "), row["model"]
        return replace(QWEN3_30B_A3B, context=row["context"])
    vocab = next(size for name, size in VOCABULARIES.items() if row["model"].startswith(name))
    return replace(
        LLAMA,
        layers=row["layers"],
        hidden=row["hidden"],
        heads=row["heads"],
        query_groups=row["kv_heads"],
        head_width=row["hidden"] // row["heads"],
        feed_forward=row["ffn"],
        context=row["context"],
        vocab=vocab,
    )


def layout_of(row: Row) -> Layout:
    """Sequence parallel with tensor ranks. FSDP2 shards everything, with a pipeline as ZeRO 1: its
    parameters then stay gathered over the micro-batches.
    """
    fsdp = row["software"].startswith("torchtitan")
    recompute = row["recompute"] or ""
    return Layout(
        tensor=row["tensor"],
        context=row["context_parallel"],
        context_by=ContextBy.ring if row["context_parallel"] > 1 else None,
        expert=row["expert_parallel"] or 1,
        pipeline=row["pipeline"],
        data=row["data"],
        interleave=row["interleave"] or 1,
        micro_batch=_micro_batch(row),
        sequence_parallel=row["tensor"] > 1,
        zero=3 if fsdp and row["pipeline"] == 1 else 1,
        recompute=Recompute.full if recompute == "full" else Recompute.none,
    )


def _micro_batch(row: Row) -> int:
    """torchtitan divides a rank's batch into as many micro-batches as there are stages, unless told
    otherwise (experimental.pipeline_parallel_microbatches).
    """
    local = _LOCAL_BATCH.search(row["notes"] or "")
    if row["micro_batch"] or not local:
        return row["micro_batch"] or 1
    return max(1, int(local[1]) // (row["pipeline"] * (row["interleave"] or 1)))


def recomputed_matmuls(row: Row) -> float:
    """torchtitan's selective recomputation by operation keeps every second matmul's output."""
    return 0.5 if "(op)" in (row["recompute"] or "") else 0.0


def samples_of(row: Row) -> int:
    """Samples of a step."""
    if row["global_batch"]:
        return int(row["global_batch"])
    local = _LOCAL_BATCH.search(row["notes"] or "")
    return int(row["data"]) * (int(local[1]) if local else int(row["micro_batch"]))


def seconds_of(row: Row) -> float | None:
    """Of a step; None if a row states neither that nor tokens a second."""
    if row["step_time_s"]:
        return float(row["step_time_s"])
    if not row["tokens_per_s_per_gpu"]:
        return None
    tokens = samples_of(row) * row["context"]
    return float(tokens / (row["tokens_per_s_per_gpu"] * row["gpus"]))


def precision_of(row: Row) -> str:
    """Of the matmuls."""
    return "fp8" if row["precision"].startswith("fp8") else str(row["precision"])


def stage_layers_of(row: Row) -> tuple[int, ...] | None:
    """126 layers, the embedding and the logits make 128, which stages share out evenly."""
    if row["layers"] is None or row["layers"] % (row["pipeline"] * (row["interleave"] or 1)) == 0:
        return None
    each = -(-(row["layers"] + 2) // row["pipeline"])
    inner = [each] * (row["pipeline"] - 2)
    ends = row["layers"] - sum(inner)
    return (ends - ends // 2, *inner, ends // 2)
