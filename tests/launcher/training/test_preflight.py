"""What is looked for on every node before the first step."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from tests.pool import RankPool
from tests.runs import run_of


def look(model: str, folders: list[str], clocks: list[float]) -> tuple[list[str], str]:
    """A job: what a rank finds odd, and what it fails with."""
    from configs.errors import RunError
    from configs.schema import DeviceName
    from launcher.run.run_dir import RunFolder
    from launcher.training import preflight
    from parallel.runtime.device import Device

    rank = torch.distributed.get_rank()
    device = Device(DeviceName.cpu, torch.device("cpu"), "gloo")
    run = run_of(f"model={model} layout=single")
    now = time.time() + clocks[rank]
    with (
        patch.object(preflight, "SEEN_WITHIN_S", 0.3),
        patch("time.time", lambda: now),
        patch.dict("os.environ", {"LOCAL_RANK": "0"}),
    ):
        try:
            return preflight.preflight(run, RunFolder(Path(folders[rank])), device), ""
        except RunError as error:
            return [], str(error)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / "logs").mkdir(parents=True)
    return tmp_path / "run"


def test_nothing_is_said_and_nothing_left_where_all_is_well(ranks: RankPool, run: Path) -> None:
    answers = ranks.run(2, look, "gpt3_nano", [str(run)] * 2, [0.0, 1.0])
    assert answers == [([], "")] * 2
    assert not list((run / "logs").iterdir())


def test_a_rank_that_sees_another_directory_is_named(ranks: RankPool, run: Path) -> None:
    other = run.with_name("other")
    answers = ranks.run(2, look, "gpt3_nano", [str(run), str(other)], [0.0, 0.0])
    assert answers[0] == answers[1]
    assert answers[0][1].startswith("before the first step: rank 1 on ")
    assert f"{other} is not the directory that rank 0 sees" in answers[0][1]


def test_a_disk_without_room_for_two_checkpoints(ranks: RankPool, run: Path) -> None:
    [(_, said), _] = ranks.run(2, look, "gpt3_175b", [str(run)] * 2, [0.0, 0.0])
    # 12 bytes for each of 174.6 billion parameters, twice.
    assert "rank 0 on " in said
    assert "is full: two checkpoints take 3.9e+03 GiB" in said


def test_clocks_that_differ_are_told_and_do_no_harm(ranks: RankPool, run: Path) -> None:
    [(odd, said), _] = ranks.run(2, look, "gpt3_nano", [str(run)] * 2, [0.0, 90.0])
    assert not said
    assert "90 s apart" in odd[0]


def look_for_a_compiler(folder: str, device: str, lacking: list[str | None]) -> str:
    """A job: what a rank says whose node lacks this for Triton; each rank is a node."""
    from configs.errors import RunError
    from configs.schema import DeviceName
    from launcher.run.run_dir import RunFolder
    from launcher.training import preflight
    from parallel.runtime.device import Device

    run = run_of("model=gpt3_nano layout=single")
    # Of CUDA the checks see the name alone: what they compute and send is on the CPU.
    named = Device(DeviceName(device), torch.device("cpu"), "gloo")
    rank = torch.distributed.get_rank()
    with (
        patch.object(preflight, "lacking_for_triton", lambda: lacking[rank]),
        patch.dict("os.environ", {"LOCAL_RANK": "0"}),
    ):
        try:
            preflight.preflight(run, RunFolder(Path(folder)), named)
        except RunError as error:
            return str(error)
    return ""


def test_a_node_without_a_compiler_is_named_before_the_first_step(
    ranks: RankPool, run: Path
) -> None:
    lacking = [None, "Triton needs a C compiler; nearest: install gcc"]
    answers = ranks.run(2, look_for_a_compiler, str(run), "cuda", lacking)
    assert answers[0] == answers[1]
    assert answers[0].startswith("before the first step: rank 1 on ")
    assert answers[0].endswith(": Triton needs a C compiler; nearest: install gcc")


def test_a_cpu_needs_nothing_for_triton(ranks: RankPool, run: Path) -> None:
    assert ranks.run(2, look_for_a_compiler, str(run), "cpu", ["gone", "gone"]) == ["", ""]


def look_at_memory(folder: str, there: int) -> str:
    """A job: what a rank on CUDA says that shares a node of `there` bytes with seven others."""
    from configs.errors import RunError
    from configs.schema import DeviceName
    from launcher.run import host_memory
    from launcher.run.run_dir import RunFolder
    from launcher.training import preflight
    from parallel.runtime.device import Device

    run = run_of("model=gpt3_13b layout=gpt3_13b layout.zero=0 layout.data=1")
    named = Device(DeviceName.cuda, torch.device("cpu"), "gloo")
    with (
        patch.object(host_memory, "memory_bytes", lambda: there),
        patch.object(preflight, "lacking_for_triton", lambda: None),
        patch.object(preflight, "_has_room", lambda *_: None),
        patch.dict("os.environ", {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8"}),
    ):
        try:
            preflight.preflight(run, RunFolder(Path(folder)), named)
        except RunError as error:
            return str(error)
    return ""


def test_copies_of_checkpoints_have_to_fit_a_gpu_nodes_memory(ranks: RankPool, run: Path) -> None:
    """12 bytes for each of 13B parameters, and eight processes."""
    (said,) = ranks.run(1, look_at_memory, str(run), 128 * 2**30)
    assert "train.async_save=true: 8 ranks with 12,853M parameters need at least 147 GiB" in said
    assert said.endswith("nearest: train.async_save=false")
    assert ranks.run(1, look_at_memory, str(run), 256 * 2**30) == [""]
