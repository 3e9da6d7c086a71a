"""Published measured runs as jobs that the planner can plan: which software, on which machine.

What a source says of its machine (nodes, network) and of its software (attention kernel, gradient
format, what it overlaps) is written down here once for each source, never for a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from benchmarks.planner import published_llama as today
from configs.schema import EngineName, Recompute
from configs.settings.network import AttentionPattern
from configs.settings.planning import ClusterConfig
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.inputs.calibration import Overheads
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.memory.stages import stage_memories

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """What a source tells of the program that it measured."""

    name: str
    matches: Callable[[Row], bool]
    network_gb_s: dict[str, float]  # one GPU's share by GPU family, one way
    flash: bool
    gradient_bytes: int = 2
    # DeepSpeed's bf16 optimizer adds gradients up in float32 beside those of autograd.
    kept_gradient_bytes: dict[str, int] = field(default_factory=dict)  # by precision
    overlap_data: bool = False
    zero: int | None = None  # where the row's own column does not say it
    one_card: bool = False
    overlap_tensor: bool = False
    overlap_hops: bool = False
    once_a_node: bool = False


def _is_titan(row: Row) -> bool:
    return str(row.get("software", "")).startswith("torchtitan")


def _source(*words: str) -> Callable[[Row], bool]:
    return lambda row: any(word in row["source"] for word in words)


# The first that matches. Networks: Selene has an HDR port of 200 Gb/s for each GPU; Jean Zay four
# Omni-Path ports of 100 Gb/s for eight; vTrain's configuration says 800 Gb/s a node; llm-foundry
# 1,600 Gb/s (A100) and, for H100, NDR of 400 Gb/s a GPU.
SOFTWARE = (
    Software(
        name="deepspeed-zero3-2021",
        matches=lambda row: "SC21" in row["source"] and row.get("zero") == 3,
        network_gb_s={"A100": 25},
        flash=False,
        one_card=True,  # a gather for each parameter, in a ring of single cards
    ),
    Software(
        name="megatron-lm-2021",
        matches=_source("SC21"),
        network_gb_s={"A100": 25},
        flash=False,
    ),
    Software(
        name="megatron-lm-2022",
        matches=_source("Korthikanti"),
        network_gb_s={"A100": 25},
        flash=False,
    ),
    Software(
        name="megatron-deepspeed-bigscience",
        matches=_source("BigScience"),
        network_gb_s={"A100": 6.25},
        flash=False,
        kept_gradient_bytes={"fp16": 2, "bf16": 6},
    ),
    Software(
        name="megatron-deepspeed-bigscience",
        matches=_source("2201.11990", "MT-NLG"),
        network_gb_s={"A100": 25},
        flash=False,
    ),
    Software(
        name="megatron-deepspeed-vtrain",
        matches=_source("vTrain"),
        network_gb_s={"A100": 12.5},
        flash=False,
    ),
    Software(
        name="llm-foundry",
        matches=_source("llm-foundry"),
        network_gb_s={"A100": 25, "H100": 50},
        flash=True,
        zero=3,
    ),
    # FSDP2, and pipelines of its own; with torch.compile unless a row's notes say otherwise. Table
    # 5 and 6's runs have asynchronous tensor parallelism.
    Software(
        name="torchtitan-eager",
        matches=lambda row: _is_titan(row) and "no compile" in row["notes"],
        network_gb_s={"H100": 50},
        flash=True,
        gradient_bytes=4,
        overlap_data=True,
    ),
    Software(
        name="torchtitan",
        matches=lambda row: _is_titan(row),
        network_gb_s={"H100": 50},
        flash=True,
        gradient_bytes=4,
        overlap_data=True,
        overlap_tensor=True,
    ),
    Software(
        name="megatron-bridge",  # and NVIDIA's entries to MLPerf, of the same time and parts
        matches=lambda row: any(
            name in row.get("software", "") for name in ("Megatron-Bridge", "MLPerf")
        ),
        network_gb_s={"H100": 50, "GB200": 50, "B200": 50},
        flash=True,
        overlap_data=True,
        overlap_tensor=True,
        overlap_hops=True,
        once_a_node=True,  # moe_flex_dispatcher_backend: hybridep
    ),
    Software(
        name="nemo-launcher",  # of 2023
        matches=_source("Launcher"),
        network_gb_s={"A100": 25},
        flash=True,
    ),
    Software(
        name="nemo",
        matches=lambda row: "NeMo" in row["source"] or "NeMo" in row.get("software", ""),
        network_gb_s={"A100": 25, "H100": 50},
        flash=True,
        overlap_data=True,
        overlap_tensor=True,
        overlap_hops=True,
    ),
    Software(
        name="megatron-core",
        matches=lambda row: True,
        network_gb_s={"A100": 25, "H100": 50, "GB200": 50, "B200": 50, "H200": 50, "V100": 12.5},
        flash=True,
        gradient_bytes=4,
        overlap_data=True,
        overlap_hops=True,
    ),
)
CLUSTERS = {
    "H100 96GB": "dgx_h100",
    "GB200": "gb200_nvl72",
    "B200": "dgx_b200",
    "H200": "dgx_h200",
    "H100": "dgx_h100",
    "A100-SXM-40GB": "dgx_a100_40",
    "A100": "dgx_a100",
    "V100": "dgx_v100",
}
GPT2_VOCAB = 50257
# Where a GPU's memory is not that of the cluster's: six stacks of the HBM2e of which the H100 PCIe
# has five, with 2,000 GB/s (its datasheet).
MEMORY_GB_S = {"H100 96GB": 2400.0}
FP8_TFLOPS = {
    "H100 96GB": 1978.9,
    "H100": 1978.9,
    "GB200": 5000.0,
    "B200": 4500.0,
}  # datasheets, dense


@dataclass(frozen=True, slots=True)
class Published:
    row: Row
    job: Job
    machine: Machine
    table: str = ""  # the file's name

    @property
    def measured(self) -> float:
        """Seconds of a step."""
        seconds = _seconds(self.row)
        assert seconds is not None, "read_table leaves such rows out"
        return seconds

    @property
    def gpu(self) -> str:
        return gpu_of(self.row)

    @property
    def measured_gib(self) -> float | None:
        """Peak memory of the GPU that was looked at: the last stage's, or the fullest."""
        peak = self.row.get("peak_memory_gib")
        return float(peak) if peak else None

    @property
    def of_the_allocator(self) -> bool:
        """Whether the memory is what torch's allocator handed out, and not the whole GPU's."""
        return "mem-max-allocated" in (self.row["notes"] or "")

    def planned_gib(self, overheads: Overheads) -> float:
        """The same, as the source measured it: allocated by torch, or all of the GPU."""
        stages = stage_memories(self.job, overheads)
        if self.of_the_allocator:
            return stages[-1].allocated / 2**30
        return max(stage.total for stage in stages) / 2**30


def read_table(path: Path) -> list[Published]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return [replace(published(row), table=path.stem) for row in rows if _seconds(row)]


def _seconds(row: Row) -> float | None:
    if today.is_of_today(row):
        return today.seconds_of(row)
    return float(row["step_time_s"]) if row["step_time_s"] else None


def published(row: Row) -> Published:
    software = next(each for each in SOFTWARE if each.matches(row))
    return Published(row, _job(row, software), _machine(row, software))


def gpu_of(row: Row) -> str:
    """Whose constants its runs are fitted to: a GPU's name as calibration.json has it."""
    return family_of(row).replace(" ", "-")


def family_of(row: Row) -> str:
    """The GPU as the tables write it."""
    return next(name for name in CLUSTERS if name in row["gpu"])


def _machine(row: Row, software: Software) -> Machine:
    gpu = family_of(row)
    text = files("configs").joinpath("cluster", f"{CLUSTERS[gpu]}.yaml").read_text(encoding="utf-8")
    machine = Machine.of(ClusterConfig(**yaml.safe_load(text)))
    peak = dict(machine.peak_flops)
    if gpu in FP8_TFLOPS:
        peak["fp8"] = FP8_TFLOPS[gpu] * 1e12
    stated = (share * 1e9 for name, share in software.network_gb_s.items() if name in gpu)
    return replace(
        machine,
        gpu=gpu_of(row),
        peak_flops=peak,
        network_bandwidth=next(stated, machine.network_bandwidth),
        memory_bandwidth=MEMORY_GB_S.get(gpu, machine.memory_bandwidth / 1e9) * 1e9,
    )


def _job(row: Row, software: Software) -> Job:
    if today.is_of_today(row):
        return Job(
            shape=today.shape_of(row),
            layout=today.layout_of(row),
            global_batch=today.samples_of(row),
            precision=today.precision_of(row),
            stage_layers=today.stage_layers_of(row),
            recomputed_matmuls=today.recomputed_matmuls(row),
            **_told(software),
        )
    zero = software.zero if software.zero is not None else row["zero"] or 0
    # A column that the source does not state is null.
    tensor, pipeline = row["tensor"] or 1, row["pipeline"] or 1
    layout = Layout(
        tensor=tensor,
        pipeline=pipeline,
        data=row["data"] or max(row["gpus"] // (tensor * pipeline), 1),
        interleave=row["interleave"] or 1,
        micro_batch=row["micro_batch"] or 1,
        sequence_parallel=bool(row["sequence_parallel"]),
        zero=zero,
        recompute=Recompute(row["recompute"] or "none"),
    )
    shape = ModelShape(
        layers=row["layers"],
        hidden=row["hidden"],
        heads=row["heads"],
        context=row["context"],
        vocab=row["vocab"] or GPT2_VOCAB,
        attention=AttentionPattern.dense,
    )
    precision = (row["precision"] or "fp16").removeprefix("amp_")
    return Job(
        shape=shape,
        layout=layout,
        global_batch=row["global_batch"],
        precision=precision,
        kept_gradient_bytes=software.kept_gradient_bytes.get(precision),
        stage_layers=_stage_layers(row),
        **_told(software),
    )


def _told(software: Software) -> dict[str, Any]:
    """What a job says of the software that ran it."""
    return {
        "engine": EngineName.deepspeed if "deepspeed" in software.name else EngineName.megatron,
        "software": software.name,
        "flash": software.flash,
        "gradient_bytes": software.gradient_bytes,
        "overlap_data": software.overlap_data,
        "one_card": software.one_card,
        "overlap_tensor": software.overlap_tensor,
        "overlap_hops": software.overlap_hops,
        "once_a_node": software.once_a_node,
    }


def _stage_layers(row: Row) -> tuple[int, ...] | None:
    """Layers of each stage where they do not split evenly, or where the embedding counts as one."""
    layers, stages = row["layers"], row["pipeline"] or 1
    ends = "embedding counted as a layer" in (row["notes"] or "")
    if layers % (stages * (row["interleave"] or 1)) == 0 and not ends:
        return None
    total = layers + 2 * ends
    counts = [total // stages + (stage < total % stages) for stage in range(stages)]
    if ends and stages > 1:
        counts[0] -= 1
        counts[-1] -= 1
    return tuple(counts) if not ends or stages > 1 else None
