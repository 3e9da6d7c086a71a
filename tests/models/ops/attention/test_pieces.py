"""Attention by pieces, in portions of keys, against one softmax with the mask written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.context_slices import halo, token_slices
from models.ops.attention.documents import attend_within_documents, documents_of
from models.ops.attention.pieces import Gradients, Piece, Sums, pieces_of

TOKENS = 64
DOCUMENTS = {
    "one": None,
    "of one token": [[0, 1, 2, 3, 20, 21, 63], list(range(TOKENS))],
    "at the edges of slices": [[0, 8, 16, 32, 48, 56], [0, 24, 40]],
    "across slices": [[0, 7, 33, 50], [0, 63]],
}


def starts_of(documents: list[list[int]] | None) -> Tensor:
    starts = torch.zeros(2, TOKENS, dtype=torch.int32)
    for sample, begins in enumerate(documents or []):
        for begin in begins:
            starts[sample, begin:] = begin
    return starts


def inputs(dtype: torch.dtype) -> list[Tensor]:
    """Queries of four heads, keys and values of two, and weights of the outputs."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, heads, TOKENS, 8, generator=generator, dtype=torch.float64).to(dtype)
        for heads in (4, 2, 2, 4)
    ]


def written_out(query: Tensor, key: Tensor, value: Tensor, starts: Tensor) -> Tensor:
    places = torch.arange(TOKENS)
    seen = (places[None] <= places[:, None]) & (places >= starts[..., None])
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=seen[:, None], enable_gqa=True
    )


def rows_of(rank: int, ranks: int) -> Tensor:
    return torch.cat([torch.tensor(list(each)) for each in token_slices(rank, ranks, TOKENS)])


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_portions_add_up_to_all_keys(
    ranks: int, documents: list[list[int]] | None, masked: bool
) -> None:
    query, key, value, weights = inputs(torch.float64)
    given = [it.clone().requires_grad_() for it in (query, key, value)]
    expected = written_out(given[0], given[1], given[2], starts_of(documents))
    gradients = torch.autograd.grad(expected, given, weights)
    of_keys, of_values = torch.zeros_like(key), torch.zeros_like(value)
    for rank in range(ranks):
        own = rows_of(rank, ranks)
        sums = Sums(query[:, :, own])
        rounds = []
        for number in range(ranks):
            other = (rank + number) % ranks
            slices = [token_slices(at, ranks, TOKENS) for at in (rank, other)]
            pieces = pieces_of(slices[0], slices[1], documents, masked=masked)
            rounds.append((rows_of(other, ranks), pieces))
            there = rounds[-1][0]
            sums.add(key[:, :, there], value[:, :, there], pieces)
        out, logs = sums.result(torch.float64)
        torch.testing.assert_close(out, expected[:, :, own].detach())
        found = Gradients(weights[:, :, own], query[:, :, own], out, logs)
        for there, pieces in rounds:
            keys, values = torch.zeros(2, *key[:, :, there].shape, dtype=torch.float64)
            found.add(key[:, :, there], value[:, :, there], pieces, keys, values)
            of_keys[:, :, there] += keys
            of_values[:, :, there] += values
        torch.testing.assert_close(found.query, gradients[0][:, :, own])
    torch.testing.assert_close(of_keys, gradients[1])
    torch.testing.assert_close(of_values, gradients[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("documents", list(DOCUMENTS.values())[1:], ids=list(DOCUMENTS)[1:])
def test_attention_within_documents(documents: list[list[int]], dtype: torch.dtype) -> None:
    query, key, value, weights = inputs(dtype)
    starts = starts_of(documents)
    assert documents_of(starts) == documents
    given = [it.requires_grad_() for it in (query, key, value)]
    out = attend_within_documents(given[0], given[1], given[2], starts)
    exact = [it.detach().double().requires_grad_() for it in given]
    expected = written_out(exact[0], exact[1], exact[2], starts)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}[dtype]
    close: dict[str, Any] = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
    torch.testing.assert_close(out, expected, **close)
    pairs = zip(
        torch.autograd.grad(out, given, weights),
        torch.autograd.grad(expected, exact, weights.double()),
        strict=True,
    )
    for got, wanted in pairs:
        assert got.dtype is dtype
        torch.testing.assert_close(got, wanted, **close)


@settings(max_examples=60, deadline=None)
@given(
    ranks=st.sampled_from([1, 2, 3, 4]),
    begins=st.sets(st.integers(1, 47)),
    masked=st.booleans(),
)
def test_every_pair_is_seen_once(ranks: int, begins: set[int], masked: bool) -> None:
    tokens = 48
    documents = [[0, *sorted(begins)]]
    starts = [max(begin for begin in documents[0] if begin <= at) for at in range(tokens)]
    for rank in range(ranks):
        own = token_slices(rank, ranks, tokens)
        positions = [at for each in own for at in each]
        seen = [
            (positions[query], key)
            for piece in pieces_of(own, [range(tokens)], documents, masked=masked)
            for query, key in pairs_in(piece)
        ]
        expected = [(query, key) for query in positions for key in range(starts[query], query + 1)]
        assert sorted(seen) == sorted(expected)


def pairs_in(piece: Piece) -> list[tuple[int, int]]:
    firsts = piece.firsts or (0,) * len(piece.queries)
    return [
        (query, key)
        for row, query in enumerate(piece.queries)
        for column, key in enumerate(piece.keys)
        if not piece.diagonal or firsts[row] <= column <= row
    ]


def test_work_follows_documents() -> None:
    def scores(documents: list[list[int]] | None) -> int:
        found = pieces_of([range(8192)], [range(8192)], documents, masked=True)
        return sum(len(piece.queries) * len(piece.keys) for piece in found)

    assert scores([list(range(0, 8192, 512))]) == scores(None) // 16
    assert scores([list(range(8192))]) == scores(None) // 32  # squares of 256


@pytest.mark.parametrize("window", [1, 2, 5, 9, 20])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_a_halo_is_the_window_before_each_slice(ranks: int, window: int) -> None:
    tokens = 48
    for target in range(ranks):
        for slot, own in enumerate(token_slices(target, ranks, tokens)):
            parts = [it for it in halo(ranks, tokens, window) if (it[1], it[2]) == (target, slot)]
            positions = [at for part in parts for at in part.tokens]
            assert positions == list(range(max(0, own.start - window + 1), own.start))
            for part in parts:
                theirs = [at for it in token_slices(part.source, ranks, tokens) for at in it]
                assert set(part.tokens) <= set(theirs)
