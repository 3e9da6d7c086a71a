"""The step that both engines take on CUDA: every tensor on the device, no wait that is not needed.

tests.fake_cuda.step runs it without a GPU, in a process of its own: its torch has a CUDA device
that does nothing, compiled for it where torch is built without CUDA.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.cli import ROOT, environment

NEEDED = {"float32": 2, "bf16": 2, "fp16": 4}
"""Values that the host reads in a step of Megatron-core's: the gradient norm and the loss; in fp16
the overflow and the loss scale too."""
OF_DEEPSPEED = 8  # the most that DeepSpeed itself reads, whatever the number of layers
WAITS_BY_ITSELF = ("zero2", "zero3")  # in DeepSpeed's stage_1_and_2.py and stage3.py


@pytest.fixture(scope="module")
def steps() -> dict[str, dict[str, Any]]:
    if shutil.which("g++") is None:
        pytest.skip("no g++, which the device is compiled by")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fake_cuda.step"],
        capture_output=True,
        text=True,
        env={**environment(), "TORCHDYNAMO_DISABLE": "1"},
        cwd=ROOT,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {each.pop("case"): each for each in found}


def cases(engine: str) -> list[str]:
    """Every case of `tests.fake_cuda.step`, which imports torch; here by name."""
    megatron = [
        *(f"megatron-1x1-mb2-{precision} rank 0" for precision in NEEDED),
        *(
            f"megatron-2x4x1x2-mb1-sp-{precision} rank {rank}"
            for precision in ("bf16", "fp16")
            for rank in (0, 4, 12)
        ),
        *(
            f"megatron-2x2x2x2-mb1-sp-zero1-{precision} rank {rank}"
            for precision in ("bf16", "fp16")
            for rank in (0, 4)
        ),
        *(f"megatron-2x4x1x2-mb1-sp-zero1-full-bf16 rank {rank}" for rank in (0, 4, 12)),
        "megatron-1x1x1x2-mb2-zero1-bf16-bf16_gradients=True rank 0",
        "megatron-1x1x1x2-mb2-bf16-bucket_size=1000 rank 0",
        "llama-megatron-1x1-mb2-float32 rank 0",
        "olmo-megatron-1x1-mb2-bf16 rank 0",
        *(f"everything-megatron-2x2x1x2-mb1-sp-zero1-bf16 rank {rank}" for rank in (0, 4)),
    ]
    deepspeed = [
        *(f"deepspeed-1x1x1x2-mb2-zero{zero}-bf16 rank 0" for zero in (1, 2, 3)),
        "deepspeed-1x1-mb2-fp16 rank 0",
        *(f"deepspeed-2x2x1x2-mb1-sp-zero1-bf16 rank {rank}" for rank in (0, 4)),
        *(f"deepspeed-2x4-mb1-fp16 rank {rank}" for rank in (0, 2, 6)),
        *(f"deepspeed-1x2-mb1-dualpipev-bf16 rank {rank}" for rank in (0, 1)),
        "llama-deepspeed-1x1x1x2-mb2-zero3-bf16 rank 0",
        *(f"everything-deepspeed-2x2x1x2-mb1-sp-zero1-bf16 rank {rank}" for rank in (0, 4)),
    ]
    return {"megatron": megatron, "deepspeed": deepspeed}[engine]


def test_every_case_is_looked_at(steps: dict[str, dict[str, Any]]) -> None:
    assert set(steps) == {*cases("megatron"), *cases("deepspeed")}


@pytest.mark.parametrize("case", cases("megatron"))
def test_megatrons_step_is_on_the_device_and_waits_for_it_twice(
    steps: dict[str, dict[str, Any]], case: str
) -> None:
    step = steps[case]
    assert "error" not in step, step["error"]
    assert step["parameters"] == step["masters"] == ["cuda:0"]
    precision = next(name for name in NEEDED if f"-{name}" in case)
    assert sum(step["reads"].values()) == NEEDED[precision], step["reads"]
    assert step["waits"] == {}


@pytest.mark.parametrize("case", cases("deepspeed"))
def test_deepspeeds_step_is_on_the_device_and_waits_for_no_layer(
    steps: dict[str, dict[str, Any]], case: str
) -> None:
    step = steps[case]
    assert "error" not in step, step["error"]
    assert step["parameters"] == step["masters"] == ["cuda:0"]
    assert sum(step["reads"].values()) <= OF_DEEPSPEED, step["reads"]
    if not any(stage in case for stage in WAITS_BY_ITSELF):
        assert step["waits"] == {}
