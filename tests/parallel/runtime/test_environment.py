"""What a rank's environment holds, which CUDA, NCCL and gloo read once."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest

from configs.errors import InputError
from configs.schema import DeviceName, Run
from launcher.run.resolve import resolve
from parallel import hardware
from parallel.runtime import environment
from parallel.runtime.environment import rank_environment
from tests.runs import run_of

HOPPER, BLACKWELL = (9, 0), (10, 0)
QUEUES = "CUDA_DEVICE_MAX_CONNECTIONS"


def resolved(overrides: str) -> Run:
    """With a device, as a rank reads it."""
    from dataclasses import replace

    return replace(run_of(f"model=gpt3_nano {overrides}"), device=DeviceName.cuda)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    def have(capability: tuple[int, int] | None) -> None:
        monkeypatch.setattr(environment, "compute_capability", lambda: capability)

    have(HOPPER)
    return have


def test_one_queue_only_where_linears_overlap_by_launch_order(gpu: Any) -> None:
    assert rank_environment(resolved("layout=tp2"), 2)[QUEUES] == "1"
    assert QUEUES not in rank_environment(resolved("layout=single"), 1)
    assert QUEUES not in rank_environment(resolved("layout=pp2"), 2)
    zero3 = "layout.tensor=2 layout.data=2 layout.zero=3 engine.name=deepspeed"
    assert QUEUES not in rank_environment(resolved(zero3), 4)
    gpu(BLACKWELL)
    assert QUEUES not in rank_environment(resolved("layout=tp2"), 2)
    gpu(None)  # the driver does not tell: one queue is right everywhere, and slow on some
    assert rank_environment(resolved("layout=tp2"), 2)[QUEUES] == "1"


def test_compilers_share_the_nodes_cores(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = "TORCHINDUCTOR_COMPILE_THREADS"
    for cores, ranks, expected in ((64, 8, "8"), (256, 8, "8"), (16, 8, "2"), (4, 8, "1")):
        here = set(range(cores))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, here=here: here)
        assert rank_environment(resolved("layout=single"), ranks)[workers] == expected
    assert rank_environment(resolved("cuda.compile_workers=3"), 8)[workers] == "3"


def test_segments_expand_unless_told_otherwise(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "PYTORCH_CUDA_ALLOC_CONF"
    assert rank_environment(resolved(""), 1)[name] == "expandable_segments:True"
    assert name not in rank_environment(resolved("cuda.expandable_segments=false"), 1)
    assert rank_environment(resolved("cuda.graphs=true"), 1)["NCCL_GRAPH_REGISTER"] == "0"
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")  # the newer name
    assert name not in rank_environment(resolved(""), 1)


def test_the_interface_is_for_both_backends(gpu: Any) -> None:
    found = rank_environment(resolved("launch.interface=lo"), 1)
    assert (found["GLOO_SOCKET_IFNAME"], found["NCCL_SOCKET_IFNAME"]) == ("lo", "=lo")
    assert "GLOO_SOCKET_IFNAME" not in rank_environment(resolved(""), 1)


def test_an_interface_that_is_not_there_is_named_before_and_after_the_start(gpu: Any) -> None:
    run = run_of("model=gpt3_nano layout=single device=cpu launch.interface=l0")
    for look in (lambda: resolve(run, {}), lambda: rank_environment(run, 1)):
        with pytest.raises(
            InputError, match=r"launch.interface=l0: .* nearest: launch.interface=lo"
        ):
            look()


def test_a_rank_on_cpu_has_nothing_of_cuda() -> None:
    run = run_of("model=gpt3_nano device=cpu layout=tp2")
    assert rank_environment(run, 2) == {}


def test_the_driver_tells_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nvml:
        """As NVML answers by its header: 0 is success, results go into what pointers name."""

        def nvmlInit_v2(self) -> int:
            return 0

        def nvmlShutdown(self) -> int:
            return 0

        def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:
            assert index == 0
            device._obj.value = 7
            return 0

        def nvmlDeviceGetCudaComputeCapability(self, device: Any, major: Any, minor: Any) -> int:
            assert device.value == 7
            major._obj.value, minor._obj.value = HOPPER
            return 0

    hardware.compute_capability.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Nvml())
    assert hardware.compute_capability() == HOPPER
    hardware.compute_capability.cache_clear()


def test_without_a_driver_the_capability_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> None:
        raise OSError("no such file")

    hardware.compute_capability.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert hardware.compute_capability() is None
    hardware.compute_capability.cache_clear()
