"""All-reduces between two ranks: what gloo gives, to the last bit, whatever else is under way."""

from __future__ import annotations

from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

from parallel.runtime import pair_allreduce
from tests.pool import RankPool

OPS = [dist.ReduceOp.SUM, dist.ReduceOp.MAX, dist.ReduceOp.MIN]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64]


def tensors() -> list[Tensor]:
    """Of this rank: all kinds, one longer than what is exchanged, one without a dimension."""
    generator = torch.Generator().manual_seed(dist.get_rank())
    made = [torch.randn(3, 50, generator=generator).mul(100).to(dtype) for dtype in DTYPES]
    return [
        *made,
        torch.randn(300_000, generator=generator),
        torch.tensor(float(dist.get_rank())),
    ]


def reduced(largest: int) -> list[Tensor]:
    found = []
    with mock.patch.object(pair_allreduce, "LARGEST", largest):
        for op in OPS:
            for tensor in tensors():
                dist.all_reduce(tensor, op)
                found.append(tensor)
    return found


def both_ways() -> tuple[list[Tensor], list[Tensor]]:
    return reduced(pair_allreduce.LARGEST), reduced(-1)


def test_gives_what_gloo_gives(ranks: RankPool) -> None:
    answers = ranks.run(2, both_ways)
    for exchanged, by_gloo in answers:
        for one, other in zip(exchanged, by_gloo, strict=True):
            assert one.dtype is other.dtype
            assert torch.equal(one, other)
    for one, other in zip(answers[0][0], answers[1][0], strict=True):
        assert torch.equal(one, other)


def exchanges(size: int) -> bool:
    """Whether a sum over all ranks, or over this rank's pair, is an exchange."""
    rank = dist.get_rank()
    pairs = [dist.new_group([first, first + 1]) for first in range(0, size, 2)]
    own = torch.tensor([1.0 + rank])
    work: Any = dist.all_reduce(own, group=pairs[rank // 2], async_op=True)
    (told,) = pair_allreduce.under_way()
    assert told.startswith("gloo:all_reduce of ")
    work.wait()
    work.wait()  # adds no second time
    assert pair_allreduce.under_way() == []
    assert float(own) == 3 + 4 * (rank // 2)
    of_all = torch.ones(1)
    all_work: Any = dist.all_reduce(of_all, async_op=True)
    all_work.wait()
    assert float(of_all) == size
    assert not isinstance(all_work, pair_allreduce._Exchange)
    return isinstance(work, pair_allreduce._Exchange)


def test_pairs_of_a_larger_world(ranks: RankPool) -> None:
    assert ranks.run(4, exchanges, 4) == [True] * 4


def among_other_messages() -> list[float]:
    """Sums under way while a message comes, and another sum, none taken for the other."""
    rank = dist.get_rank()
    message = torch.tensor([100.0 + rank])
    came = torch.empty(1)
    receiving: Any = dist.irecv(came, 1 - rank)
    first, second = torch.tensor([1.0 + rank]), torch.tensor([10.0 + rank])
    works: list[Any] = [dist.all_reduce(each, async_op=True) for each in (first, second)]
    sending: Any = dist.isend(message, 1 - rank)
    works[1].wait()
    works[0].wait()
    receiving.wait()
    sending.wait()
    return [float(first), float(second), float(came)]


def test_is_not_mistaken_for_another_message(ranks: RankPool) -> None:
    assert ranks.run(2, among_other_messages) == [[3, 21, 101], [3, 21, 100]]
