"""What ranks keep in host memory, against what their machine or job has."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from configs.schema import DeviceName
from launcher.run.host_memory import BYTES_A_RANK, memory_bytes, needed_bytes
from models.shape import ModelShape
from parallel.layout import Layout
from tests.runs import run_of


@pytest.mark.parametrize(
    ("settings", "device", "each"),
    [
        ("train.async_save=false", DeviceName.cpu, 16),
        ("train.async_save=true", DeviceName.cpu, 16 + 12 / 2),
        ("train.async_save=false", DeviceName.cuda, 0),
        ("train.async_save=true", DeviceName.cuda, 12 / 2),
        ("train.async_save=true engine=deepspeed engine.offload_optimizer=true", DeviceName.cuda,
         (12 + 16) / 2),
    ],
)  # fmt: skip
def test_bytes_of_a_parameter(settings: str, device: DeviceName, each: float) -> None:
    run = run_of(f"model=gpt3_125m layout=dp2 {settings}")
    needed = needed_bytes(run, Layout(data=2), device, 2)
    parameters = ModelShape.of(run.model).parameters
    assert needed == pytest.approx(2 * BYTES_A_RANK + 2 * each * parameters)


def test_a_jobs_limit_counts_and_not_its_nodes_memory(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    total = psutil.virtual_memory().total
    assert memory_bytes(limit) == total
    limit.write_text("max\n")
    assert memory_bytes(limit) == total
    limit.write_text("1073741824\n")
    assert memory_bytes(limit) == 1 << 30
