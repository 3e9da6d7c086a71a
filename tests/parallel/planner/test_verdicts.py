"""The rules asked of many layouts at once: the same verdicts as one by one."""

from __future__ import annotations

import random

import pytest

from parallel.planner.candidates import WITHIN, frames
from parallel.planner.verdicts import Verdicts
from parallel.rules import allowed
from tests.runs import run_of

RUNS = [
    ("model=gpt3_2.7b cluster=dgx_a100 precision=bf16", 16),
    ("model=gpt3_2.7b cluster=dgx_a100 precision=bf16 engine=deepspeed layout.data=4", 16),
    ("model=gpt3_2.7b cluster=dgx_h100 precision=fp8 optimizer.ramp_tokens=0", 12),
    ("model=mixtral_8x7b cluster=dgx_h100 precision=bf16 cuda.bf16_gradients=true", 16),
    ("model=llama3_8b cluster=dgx_h100 precision=bf16 model.context=32768 cuda.graphs=true", 16),
    ("model=llama3_8b cluster=dgx_h100 precision=bf16 train.save_every=-1", 8),
]


@pytest.mark.parametrize(("settings", "ranks"), RUNS)
def test_verdicts_are_those_of_the_rules(settings: str, ranks: int) -> None:
    run = run_of(f"{settings} cluster.nodes=2")
    chance = random.Random(11)
    every = list(frames(run, ranks, 8))
    verdicts = Verdicts(run, ranks=ranks, device="cuda")
    for frame in chance.sample(every, min(len(every), 150)):
        layouts = frame.layouts()
        assert len(layouts) == frame.count
        valid = set(verdicts.allowed(layouts, WITHIN))
        for layout in chance.sample(layouts, min(len(layouts), 3)):
            said = allowed(run, layout, ranks=ranks, device="cuda")
            assert (layout in valid) == said == verdicts.allow(layout), layout
