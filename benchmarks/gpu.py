"""All that one GPU can tell, in under eight minutes, as JSON: `python -m benchmarks.gpu`.

Matmul rates of the models' shapes; banded, dense and masked attention against each other and the
roofline; and for GPT-3 125M to 2.7B in bf16 the share of the GPU's peak that a training step
reaches (MFU), its time and its memory beside what the planner says of them. Where there is no CUDA
device the file says so and holds no numbers. `--device cpu --models gpt3_nano` shows that it works.

Models come smallest first; what there was no time left for is named, and blank. The file is written
after each part. A part that fails is named under "failures" with its reason, and the others go on;
the exit status is then 1. `--parts models` measures only one part of it.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import socket
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from configs.atomic import write_atomic
from configs.errors import InputError
from configs.schema import DeviceName, Run
from launcher.command_line.compose import compose_run
from models.flops import step_flops
from models.shape import ModelShape
from parallel.gpu_peaks import peak_tflops
from parallel.layout import Layout
from parallel.runtime.device import Device, join_world, open_device
from parallel.runtime.dtypes import DTYPES

MICRO_BATCH = {"gpt3_125m": 16, "gpt3_350m": 8, "gpt3_760m": 8, "gpt3_1.3b": 4, "gpt3_2.7b": 2}
MICRO_BATCHES = 8  # of a step, so that the optimizer takes a share as in a real run
WARM_UP, STEPS = 3, 5
CLUSTERS = {"H200": "dgx_h200", "H100": "dgx_h100", "A100": "dgx_a100", "B200": "dgx_b200"}
PARTS = ("models", "attention", "matmuls")


class Measured:
    """What has been measured so far, which is on disk after each part."""

    def __init__(self, answer: dict[str, Any], out: Path) -> None:
        self.answer = answer
        self._out = out
        self._started = time.monotonic()
        out.parent.mkdir(parents=True, exist_ok=True)
        self.write()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Writes the file at the end of the block, and what went wrong in it if anything did."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.answer["failures"][name] = f"{type(error).__name__}: {error}".strip()
        self.write()

    def write(self) -> None:
        self.answer["seconds"] = round(self.seconds, 1)
        write_atomic(self._out, json.dumps(self.answer, indent=1) + "\n")


def main() -> None:
    options = _options()
    measured = Measured(_conditions(options), options.out)
    answer = measured.answer
    cuda = options.device == "cuda" and torch.cuda.is_available()
    if options.device == "cpu" or cuda:
        warnings.filterwarnings("ignore")
        with measured.part("all"):
            _measure(measured, options)
    else:
        answer["note"] = "no CUDA device: nothing was measured"
        measured.write()
    print(f"{answer['device']}: {answer['note'] or options.out}")
    if answer["failures"]:
        _say(f"failed: {', '.join(answer['failures'])}")
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", nargs="+", default=list(MICRO_BATCH))
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096, 8192])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--budget-s", type=float, default=450)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    return parser.parse_args()


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    cuda = options.device == "cuda" and torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else f"no CUDA device ({options.device})",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "torch": torch.__version__,
        "note": None,
        "failures": {},
        "matmuls": None,
        "attention": None,
        "models": dict.fromkeys(options.models),
    }


def _measure(measured: Measured, options: argparse.Namespace) -> None:
    answer = measured.answer
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(_free_port()))
    runs = {name: _run(name, options, answer["device"]) for name in options.models}
    first = next(iter(runs.values()))
    device = open_device(DeviceName(options.device), 0, 1)
    join_world(device, first.launch)
    dtype = DTYPES[first.precision]
    tflops = peak_tflops(device.label, first.precision)
    peak = tflops * 1e12 if tflops else None
    gb_s = first.cluster.memory_gb_s
    from benchmarks.gpu_kernels import attentions, matmuls

    def seconds_left() -> float:
        left: float = options.budget_s - measured.seconds
        return left

    # What a training step takes of the GPU comes first: the rest is detail.
    for name, run in runs.items() if "models" in options.parts else ():
        if seconds_left() < options.budget_s / 4:
            answer["note"] = f"no time was left for {name} and larger models"
            break
        with measured.part(name):
            answer["models"][name] = _train(run, device, peak)
            _say(f"{name}: {answer['models'][name]}")
        _free(device)
    shapes = [ModelShape.of(run.model) for run in runs.values()]
    rows = [run.layout.micro_batch * run.model.context for run in runs.values()]
    where = device.torch_device
    answer["attention"] = []
    for count in options.tokens if "attention" in options.parts else ():
        with measured.part(f"attention of {count} tokens"):
            answer["attention"] += attentions(
                [count], 256, 16, 128, dtype, where, peak, gb_s * 1e9 if gb_s else None
            )
    if "matmuls" in options.parts and seconds_left() > options.budget_s / 10:
        with measured.part("matmuls"):
            answer["matmuls"] = matmuls(shapes, sorted(set(rows)), dtype, where, peak)
    torch.distributed.destroy_process_group()


def _free(device: Device) -> None:
    """What a model that is gone has left behind, a failed one too."""
    gc.collect()
    if device.name is DeviceName.cuda:
        torch.cuda.empty_cache()


def _run(name: str, options: argparse.Namespace, device: str) -> Run:
    micro = MICRO_BATCH.get(name, 1)
    settings = [
        f"model={name}",
        "layout=single",
        f"layout.micro_batch={micro}",
        f"train.global_batch={micro * MICRO_BATCHES}",
        "optimizer.ramp_tokens=0",
        f"device={options.device}",
    ]
    if options.device == "cuda":
        cluster = next((it for gpu, it in CLUSTERS.items() if gpu in device), "local")
        settings += ["precision=bf16", f"cluster={cluster}", "cluster.gpus_per_node=1"]
    return compose_run(settings)


def _train(run: Run, device: Device, peak: float | None) -> dict[str, Any]:
    """A few steps on random tokens, and what the planner says of one."""
    from parallel.engines.base import Batch
    from parallel.engines.running import running_engine

    shape, layout = ModelShape.of(run.model), Layout.resolve(run.layout, None)
    size = (layout.micro_batch, run.model.context + 1)
    batch = Batch(
        micro_batches=[torch.randint(run.model.vocab, size) for _ in range(MICRO_BATCHES)]
    )
    built = time.perf_counter()
    with running_engine(run, Layout.resolve(run.layout, None), device) as engine:
        built = time.perf_counter() - built
        seconds = []
        for _ in range(WARM_UP + STEPS):
            if device.name is DeviceName.cuda:
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            result = engine.train_step(batch, run.optimizer.learning_rate / 10)
            seconds.append(time.perf_counter() - started)  # a step ends with its loss on the host
        peak_bytes = device.peak_memory_bytes()
        loss = result.loss
    took = statistics.median(seconds[WARM_UP:])
    flops = step_flops(shape, layout.micro_batch * MICRO_BATCHES)
    planned = _planned(run, layout, device)
    return {
        "micro_batch": layout.micro_batch,
        "global_batch": layout.micro_batch * MICRO_BATCHES,
        "precision": str(run.precision.value),
        "context": run.model.context,
        "build_s": built,
        "step_s": took,
        "step_s_all": seconds[WARM_UP:],
        "tokens_per_s": layout.micro_batch * MICRO_BATCHES * run.model.context / took,
        "tflops": flops / took / 1e12,
        "mfu": flops / took / peak if peak else None,
        "memory_gib": peak_bytes / 2**30,
        "last_loss": loss,
        "planned_step_s": planned[0],
        "planned_memory_gib": planned[1],
    }


def _planned(run: Run, layout: Layout, device: Device) -> tuple[float | None, float | None]:
    from parallel.planner.plan import Plan

    try:
        plan = Plan.of(run, layout, device.name)
    except InputError as error:  # a GPU whose figures are in no cluster file
        _say(str(error))
        return None, None
    return plan.time.seconds, plan.memories[0].allocated / 2**30


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
