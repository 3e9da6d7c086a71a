"""What is written here although a library has it, against that library: each has to be faster.

GELU and the loss on a CPU, forward and backward, and the Bloom filter before a search for n-grams.
What they compute is compared in the tests.

    python -m benchmarks.own_kernels
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.paired import Block, measure, show
from configs.schema import DeviceName
from corpus.contamination.ngram_index import NgramIndex
from models.ops.cross_entropy import cross_entropy
from models.ops.gelu import host_gelu
from parallel.layout import Layout
from parallel.runtime.device import open_device
from parallel.runtime.process_groups import process_groups

HIDDEN = (1024, 3072)  # tokens of a micro-batch, and the inner width of 125M
LOGITS = (1024, 50304)
GRAMS, TEXT = 1_000_000, 4_000_000  # of benchmarks, and of a corpus that has hardly any of them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    open_device(DeviceName.cpu, 0, 1)
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{Path(folder) / 'store'}"
        torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
        with process_groups(Layout(), 0):
            _compare(_gelus(), "GELU, 1,024 x 3,072, forward and backward", rounds, 10)
            _compare(_losses(), "loss, 1,024 x 50,304, forward and backward", rounds, 1)
        torch.distributed.destroy_process_group()
    _compare(_searches(), "4 million n-grams looked up among 1 million", rounds, 1)


def _compare(each: dict[str, Callable[[], object]], title: str, rounds: int, steps: int) -> None:
    def block(step: Callable[[], object]) -> Block:
        def run(number: int) -> None:
            for _ in range(number):
                step()

        return run

    blocks = {name: block(step) for name, step in each.items()}
    show(measure(blocks, rounds=rounds, steps=steps), title)


def _gelus() -> dict[str, Callable[[], object]]:
    x, gradient = torch.randn(HIDDEN, requires_grad=True), torch.randn(HIDDEN)

    def through(gelu: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: gelu(x * 1).backward(gradient)  # type: ignore[no-untyped-call]

    return {
        "torch": through(lambda x: F.gelu(x, approximate="tanh")),
        "host_gelu": through(host_gelu),
    }


def _losses() -> dict[str, Callable[[], object]]:
    from megatron.core.parallel_state import get_tensor_model_parallel_group
    from megatron.core.tensor_parallel import vocab_parallel_cross_entropy

    logits, labels = torch.randn(LOGITS, requires_grad=True), torch.randint(LOGITS[1], LOGITS[:1])
    group = get_tensor_model_parallel_group()

    def through(loss: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: loss(logits * 1).mean().backward()  # type: ignore[no-untyped-call]

    return {
        "torch": through(lambda logits: F.cross_entropy(logits, labels)),
        "Megatron-core": through(lambda logits: vocab_parallel_cross_entropy(logits, labels)),
        "cross_entropy": through(lambda logits: cross_entropy(logits, labels, group)),
    }


def _searches() -> dict[str, Callable[[], object]]:
    random = np.random.default_rng(0)
    grams, text = (random.integers(0, 2**64, size, np.uint64) for size in (GRAMS, TEXT))
    index = NgramIndex.of(13, grams, np.arange(GRAMS, dtype=np.int32))

    def plainly() -> object:
        low = np.searchsorted(index.hashes, text, "left")
        high = np.searchsorted(index.hashes, text, "right")
        return np.flatnonzero(high > low)

    return {"numpy's binary search": plainly, "NgramIndex": lambda: index.search(text)}


if __name__ == "__main__":
    main()
