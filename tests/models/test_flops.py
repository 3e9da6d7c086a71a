"""FLOPs against masks and matmuls counted one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from configs.settings.network import AttentionPattern
from models.flops import (
    attended_pairs,
    forward_flops_per_sample,
    paper_training_flops,
    step_flops,
)
from models.shape import ModelShape

TINY = ModelShape(
    layers=3,
    hidden=8,
    heads=2,
    context=6,
    vocab=11,
    attention=AttentionPattern.alternating,
    window=2,
)


@given(st.integers(1, 40), st.none() | st.integers(1, 50))
def test_attended_pairs_are_the_ones_of_the_mask(length: int, window: int | None) -> None:
    mask = [
        key <= query and (window is None or query - key < window)
        for query in range(length)
        for key in range(length)
    ]
    assert attended_pairs(length, window) == sum(mask)


def test_a_forward_pass_is_the_sum_of_its_matmuls() -> None:
    hidden, tokens = TINY.hidden, TINY.context
    shapes = [(hidden, 3 * hidden), (hidden, hidden), (hidden, 4 * hidden), (4 * hidden, hidden)]
    weights = TINY.layers * sum(2 * tokens * rows * columns for rows, columns in shapes)
    # Scores and their weighted sum: two matmuls of `hidden` channels over the pairs attended.
    pairs = 21 + 11 + 21  # dense, a band of 2, dense, over 6 tokens
    logits = 2 * tokens * hidden * TINY.vocab
    assert forward_flops_per_sample(TINY) == weights + 2 * 2 * hidden * pairs + logits


def test_a_step_is_three_forward_passes_of_each_sample() -> None:
    assert step_flops(TINY, 5) == 15 * forward_flops_per_sample(TINY)


def test_the_papers_count_leaves_out_attention() -> None:
    gpt3 = ModelShape(layers=96, hidden=12288, heads=96, context=2048, vocab=50257)
    ours = step_flops(gpt3, 1) / gpt3.context
    papers = paper_training_flops(gpt3, 1)
    # The paper counts position embeddings, which are no matmul, and no attention scores.
    assert 1.0 < ours / papers < 1.02
