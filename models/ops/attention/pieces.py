"""Attention over pieces of the matrix of scores, each computed by a flash kernel.

A piece is a rectangle of queries that all see all of its keys, or a square on the diagonal. Keys
may come in portions, from other ranks; a query's outputs over several portions are merged by the
logarithms of their sums of exponentials (Milakov and Gimelshein 2018; Liu et al. 2023, "Ring
Attention"). Flash attention's backward pass needs of the softmax nothing but that logarithm (Dao
2023, algorithm 2): given that of all keys, it gives each piece's exact share of the gradients.

Shape suffixes: B samples, N heads on this rank, T queries, S keys, H head width.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.ops.half_precision import upcast_if_unsupported

_RUN = 256  # tokens of short documents that one masked piece covers
_ALIGNED = 32  # rows of the logarithms that torch's memory-efficient kernel reads at once


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of the queries and of the keys at hand, which all of them or the earlier ones see.

    Attributes:
        sample: of the batch; None: all of them.
        diagonal: queries and keys are the same tokens, and each sees those up to its own.
        firsts: of a diagonal over several documents, each row's first key; None: the first.
    """

    sample: int | None
    queries: range
    keys: range
    diagonal: bool = False
    firsts: tuple[int, ...] | None = None

    @property
    def query_rows(self) -> tuple[slice, slice, slice]:
        """The index of the queries in [B, N, T]."""
        return self._rows(self.queries)

    @property
    def key_rows(self) -> tuple[slice, slice, slice]:
        """The index of the keys in [B, N, S]."""
        return self._rows(self.keys)

    def _rows(self, rows: range) -> tuple[slice, slice, slice]:
        samples = slice(None) if self.sample is None else slice(self.sample, self.sample + 1)
        return samples, slice(None), slice(rows.start, rows.stop)


def pieces_of(
    queries: Sequence[range],
    keys: Sequence[range],
    documents: Sequence[Sequence[int]] | None = None,
    *,
    masked: bool = False,
) -> list[Piece]:
    """What causal attention within documents consists of; squares come first.

    Args:
        queries: positions in the sequence of the queries at hand, in slices as memory has them.
        keys: the same of the keys.
        documents: for each sample, where documents begin, from 0; None: one, in every sample.
        masked: short documents are put together into squares with a mask.
    """
    found: list[Piece] = []
    masked = masked and documents is not None
    for sample, begins in [(None, [0])] if documents is None else enumerate(documents):
        squares, rectangles = [], []
        for at, own in _placed(queries):
            for first, part in _parts(own, begins):
                rows = _rows(part, own, at)
                for there, others in _placed(keys):
                    if part.start in others:
                        squares.append(Piece(sample, rows, _rows(part, others, there), True))
                    seen = range(max(first, others.start), min(part.start, others.stop))
                    if seen:
                        rectangles.append(Piece(sample, rows, _rows(seen, others, there)))
        found += [*(_runs(squares) if masked else squares), *_joined(rectangles)]
    return sorted(found, key=lambda piece: not piece.diagonal)


def _placed(slices: Sequence[range]) -> Iterator[tuple[int, range]]:
    """Each slice with the row where it begins."""
    at = 0
    for each in slices:
        yield at, each
        at += len(each)


def _parts(own: range, begins: Sequence[int]) -> Iterator[tuple[int, range]]:
    """The parts of a slice by document, each with the document's first position."""
    for number in range(bisect_right(begins, own.start) - 1, len(begins)):
        if begins[number] >= own.stop:
            return
        end = begins[number + 1] if number + 1 < len(begins) else own.stop
        yield begins[number], range(max(begins[number], own.start), min(end, own.stop))


def _rows(positions: range, within: range, at: int) -> range:
    return range(at + positions.start - within.start, at + positions.stop - within.start)


def _joined(rectangles: list[Piece]) -> list[Piece]:
    """Neighbours as one: the same queries with adjacent keys, or the other way round."""
    joined: list[Piece] = []
    for piece in rectangles:
        before = joined[-1] if joined else None
        if before and before.queries == piece.queries and before.keys.stop == piece.keys.start:
            joined[-1] = replace(before, keys=range(before.keys.start, piece.keys.stop))
        elif before and before.keys == piece.keys and before.queries.stop == piece.queries.start:
            joined[-1] = replace(before, queries=range(before.queries.start, piece.queries.stop))
        else:
            joined.append(piece)
    return joined


def _runs(squares: list[Piece]) -> list[Piece]:
    """Squares of documents that follow each other, put together up to `_RUN` rows."""
    runs: list[list[Piece]] = []
    for piece in squares:
        run = runs[-1] if runs else None
        follows = run and (run[-1].queries.stop, run[-1].keys.stop) == (
            piece.queries.start,
            piece.keys.start,
        )
        if run and follows and piece.queries.stop - run[0].queries.start <= _RUN:
            run.append(piece)
        else:
            runs.append([piece])
    return [_together(run) for run in runs]


def _together(run: list[Piece]) -> Piece:
    if len(run) == 1:
        return run[0]
    first, last = run[0], run[-1]
    firsts = (each.queries.start - first.queries.start for each in run for _ in each.queries)
    return replace(
        first,
        queries=range(first.queries.start, last.queries.stop),
        keys=range(first.keys.start, last.keys.stop),
        firsts=tuple(firsts),
    )


class Sums:
    """Outputs [B, N, T, H] of queries over the keys so far, and the logarithms of their sums."""

    def __init__(self, query_BNTH: Tensor) -> None:
        self.query = upcast_if_unsupported(query_BNTH)
        kept = torch.float64 if query_BNTH.dtype is torch.float64 else torch.float32
        self._out = torch.empty_like(query_BNTH, dtype=kept, memory_format=torch.contiguous_format)
        self._logs = torch.empty_like(self._out[..., 0])

    def add(self, key_BNSH: Tensor, value_BNSH: Tensor, pieces: Sequence[Piece]) -> None:
        """Every query's square has to come before its rectangles."""
        key, value = upcast_if_unsupported(key_BNSH), upcast_if_unsupported(value_BNSH)
        for piece in pieces:
            rows = piece.query_rows
            out, logs = _forward(
                self.query[rows], key[piece.key_rows], value[piece.key_rows], piece
            )
            if piece.diagonal:
                self._out[rows], self._logs[rows] = out, logs
                continue
            before = self._logs[rows]
            both = torch.logaddexp(before, logs)
            self._out[rows] *= (before - both).exp_()[..., None]
            self._out[rows] += out * (logs - both).exp_()[..., None]
            self._logs[rows] = both

    def result(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Outputs [B, N, T, H] and logarithms [B, N, T]."""
        return self._out.to(dtype), self._logs


class Gradients:
    """Gradients of queries, given those of their outputs; keys and values come in portions."""

    def __init__(
        self, gradient_BNTH: Tensor, query_BNTH: Tensor, out_BNTH: Tensor, logs_BNT: Tensor
    ) -> None:
        self._gradient, self._query, self._out = (
            upcast_if_unsupported(it) for it in (gradient_BNTH, query_BNTH, out_BNTH)
        )
        self._logs = logs_BNT
        self.query = torch.zeros_like(self._query, dtype=logs_BNT.dtype)

    def add(
        self,
        key_BNSH: Tensor,
        value_BNSH: Tensor,
        pieces: Sequence[Piece],
        key_gradient_BNSH: Tensor,
        value_gradient_BNSH: Tensor,
    ) -> None:
        """Adds to the queries' gradients, and to those of these keys and values."""
        key, value = upcast_if_unsupported(key_BNSH), upcast_if_unsupported(value_BNSH)
        for piece in pieces:
            rows, keys = piece.query_rows, piece.key_rows
            query, keys_there, values = _backward(
                self._gradient[rows],
                self._query[rows],
                key[keys],
                value[keys],
                self._out[rows],
                self._logs[rows],
                piece,
            )
            self.query[rows] += query
            key_gradient_BNSH[keys] += keys_there
            value_gradient_BNSH[keys] += values


def _forward(query: Tensor, key: Tensor, value: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
    """A piece's outputs [B, N, T, H] and logarithms [B, N, T]."""
    aten, causal = torch.ops.aten, _is_causal(piece)
    if not query.is_cuda:
        return aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=_mask(piece, query)
        )
    assert piece.firsts is None
    if query.dtype is torch.float32:
        key, value = (_repeated(it, query) for it in (key, value))
        out, logs, *_ = aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal
        )
        return out, logs[..., : query.shape[2]]
    out, logs, *_ = aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal)
    return out, logs


def _backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    logs: Tensor,
    piece: Piece,
) -> tuple[Tensor, Tensor, Tensor]:
    """A piece's gradients of queries, keys and values."""
    aten, causal = torch.ops.aten, _is_causal(piece)
    if not query.is_cuda:
        mask = _mask(piece, query)
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(
            gradient, query, key, value, out, logs, 0.0, causal, attn_mask=mask
        )
    # No dropout: no random numbers to repeat.
    seed, offset = (torch.empty(0, dtype=torch.int64, device=query.device) for _ in range(2))
    if query.dtype is torch.float32:
        groups = key.shape[1]
        key, value = (_repeated(it, query) for it in (key, value))
        rows = query.shape[2]
        padded = F.pad(logs, (0, -rows % _ALIGNED))
        queries, keys, values, _ = aten._scaled_dot_product_efficient_attention_backward(
            gradient,
            query,
            key,
            value,
            None,
            out,
            padded,
            seed,
            offset,
            0.0,
            [True, True, True, False],
            causal,
        )
        return queries, *(it.unflatten(1, (groups, -1)).sum(2) for it in (keys, values))
    return aten._scaled_dot_product_flash_attention_backward(
        gradient,
        query,
        key,
        value,
        out,
        logs.contiguous(),
        None,
        None,
        query.shape[2],
        key.shape[2],
        0.0,
        causal,
        seed,
        offset,
    )


def _is_causal(piece: Piece) -> bool:
    return piece.diagonal and piece.firsts is None


def _mask(piece: Piece, query: Tensor) -> Tensor | None:
    if piece.firsts is None:
        return None
    return _mask_of(piece.firsts, query.device, query.dtype)


@cache
def _mask_of(firsts: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    places = torch.arange(len(firsts), device=device)
    first = torch.tensor(firsts, device=device)
    seen = (places[None] <= places[:, None]) & (places[None] >= first[:, None])
    return torch.zeros(seen.shape, device=device, dtype=dtype).masked_fill_(~seen, -torch.inf)


def _repeated(heads: Tensor, query: Tensor) -> Any:
    return heads.repeat_interleave(query.shape[1] // heads.shape[1], dim=1)
