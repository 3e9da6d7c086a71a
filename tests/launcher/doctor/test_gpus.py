"""What `nvidia-smi topo -m` printed on real machines, and for which GPUs torch has code."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.doctor.gpus import links_in, links_in_words, runs_on

TOPOLOGIES = Path(__file__).parent / "topologies"


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ("dgx_a100", "NVLink (NV12) between all pairs"),
        ("four_h100_underlined", "NVLink (NV18) between all pairs"),
        ("four_v100", "NVLink (NV1, NV2) between all pairs"),
        (
            "eight_v100",
            "NVLink (NV1, NV2) between 16 of 28 pairs, PCIe (SYS) between the others",
        ),
        ("eight_pcie", "PCIe (NODE, PHB, SYS) between all pairs"),
        ("two_a100_pcie", "PCIe (NODE) between both"),
    ],
)
def test_links_of_real_machines(machine: str, words: str) -> None:
    links = links_in((TOPOLOGIES / f"{machine}.txt").read_text())
    assert links_in_words(links) == words


def test_every_pair_is_there_once() -> None:
    assert len(links_in((TOPOLOGIES / "dgx_a100.txt").read_text())) == 8 * 7 // 2


@pytest.mark.parametrize(
    "text",
    [
        (TOPOLOGIES / "one_gb10.txt").read_text(),
        "",
        "Failed to initialize NVML: Driver/library version mismatch",
        "\tGPU0\tGPU1\tCPU Affinity\n",  # cut off
        "\tGPU0\tGPU1\nGPU0\t X\nGPU1",
    ],
)
def test_no_links_where_there_are_none_to_read(text: str) -> None:
    assert links_in(text) == []


WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((9, 0), WHEEL, True),
        ((8, 9), WHEEL, True),  # by sm_86
        ((10, 3), WHEEL, True),
        ((7, 0), WHEEL, False),  # a V100
        ((11, 0), WHEEL, False),
        ((7, 0), ["sm_75"], False),
        ((12, 1), ["sm_90", "compute_90"], True),  # compiled anew from PTX
        ((8, 0), ["compute_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a", "compute_90a"], False),
        ((9, 3), ["sm_90a", "compute_90a"], False),
        ((10, 3), ["sm_100f"], True),
        ((12, 0), ["compute_100f"], False),
        ((9, 0), [], False),
        ((9, 0), ["gfx942"], False),
    ],
)
def test_whether_torch_has_code_for_a_gpu(
    capability: tuple[int, int], built_for: list[str], runs: bool
) -> None:
    assert runs_on(capability, built_for) is runs
