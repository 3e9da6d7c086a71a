"""`python -m tests.fake_cuda.step`: the CUDA step of both engines, on fake CUDA tensors.

The engine's own code builds a rank with the settings that it has on CUDA, and takes steps and an
evaluation, in a world whose other ranks do not exist. Operations check their devices as on CUDA: a
tensor on the wrong one is an error. Nothing of the CPU bridge is installed. Prints a line of JSON
for each case: `case`, and `error`, or what a settled step did.
"""

from __future__ import annotations

from tests.fake_cuda import device

if __name__ == "__main__":
    device.load()

import io
import json
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

from configs.schema import DeviceName, EngineConfig, Precision, Recompute, Schedule
from configs.settings.cuda import CudaConfig
from models.shape import ModelShape
from parallel.layout import Layout
from parallel.planner.trace.trace import traced_ranks
from tests import families
from tests.cli import ROOT
from tests.fake_cuda import functions
from tests.layouts import name
from tests.training import ADAM, DEEPSPEED, GLOBAL_BATCH, MEGATRON, SEED, SHAPE

CUDA = torch.device("cuda", 0)


@dataclass(frozen=True)
class Case:
    """An engine under a layout in a precision, on one rank."""

    engine: EngineConfig
    layout: Layout
    precision: Precision
    cuda: CudaConfig = CudaConfig()  # noqa: RUF009
    shape: ModelShape = SHAPE

    def __str__(self) -> str:
        usual = CudaConfig()
        set_ = [f"{k}={v}" for k, v in vars(self.cuda).items() if v != getattr(usual, k)]
        of = [] if self.shape == SHAPE else [families.NAMES[self.shape]]
        return "-".join([*of, self.engine.name, name(self.layout), self.precision, *set_])


BF16, FP16 = Precision.bf16, Precision.fp16
WHOLE = Layout(micro_batch=2)
SPLIT = Layout(tensor=2, pipeline=4, data=2, micro_batch=1, sequence_parallel=True)
INTERLEAVED = replace(SPLIT, pipeline=2, interleave=2, zero=1)
OTHERS = [
    Case(MEGATRON, WHOLE, Precision.float32, shape=families.LLAMA),
    Case(MEGATRON, WHOLE, BF16, shape=families.OLMO),
    Case(MEGATRON, replace(SPLIT, pipeline=2, zero=1), BF16, shape=families.EVERYTHING),
    Case(DEEPSPEED, Layout(data=2, micro_batch=2, zero=3), BF16, shape=families.LLAMA),
    Case(DEEPSPEED, replace(SPLIT, pipeline=2, zero=1), BF16, shape=families.EVERYTHING),
]
CASES = [
    *(Case(MEGATRON, WHOLE, precision) for precision in (Precision.float32, BF16, FP16)),
    *(Case(MEGATRON, layout, p) for layout in (SPLIT, INTERLEAVED) for p in (BF16, FP16)),
    Case(MEGATRON, replace(SPLIT, zero=1, recompute=Recompute.full), BF16),
    Case(MEGATRON, Layout(data=2, zero=1, micro_batch=2), BF16, CudaConfig(bf16_gradients=True)),
    Case(MEGATRON, Layout(data=2, micro_batch=2), BF16, CudaConfig(bucket_size=1000)),
    *(Case(DEEPSPEED, Layout(data=2, micro_batch=2, zero=zero), BF16) for zero in (1, 2, 3)),
    Case(DEEPSPEED, Layout(micro_batch=2), FP16),
    Case(DEEPSPEED, replace(SPLIT, pipeline=2, zero=1), BF16),
    Case(DEEPSPEED, Layout(tensor=2, pipeline=4, micro_batch=1), FP16),
    Case(DEEPSPEED, Layout(pipeline=2, micro_batch=1, schedule=Schedule.dualpipev), BF16),
    *OTHERS,
]


@contextmanager
def fake_world(world_size: int, rank: int) -> Iterator[Counter[str]]:
    """This process as one rank with a CUDA device; counts what the host reads of it."""
    from parallel.planner.trace import fake_world as world

    torch.distributed.init_process_group(
        "fake", store=FakeStore(), rank=rank, world_size=world_size
    )
    reads = _Reads()
    try:
        with ExitStack() as undo:
            world._put_in_place(undo)
            undo.enter_context(_Fake(allow_non_fake_inputs=True))
            undo.enter_context(world._Answers())
            undo.enter_context(reads)
            yield reads.by_place
    finally:
        torch.distributed.destroy_process_group()


class _Fake(FakeTensorMode):  # type: ignore[no-untyped-call]
    avoid_device_init = True  # there is none, whatever torch.cuda says here


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts values of CUDA tensors that are read on the host, by the line that reads them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_place: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "cuda":
            self.by_place[_place()] += 1
        return func(*args, **(kwargs or {}))


def _place() -> str:
    for line in reversed(traceback.extract_stack()[:-2]):
        if "/torch/" not in line.filename and "fake_cuda" not in line.filename:
            inside = line.filename.split("site-packages/")[-1].removeprefix(f"{ROOT}/")
            return f"{inside}:{line.lineno} {line.line}"
    return "?"


def run(case: Case, rank: int) -> dict[str, Any]:
    """What a settled step did, and where its tensors are."""
    from parallel.engines.base import Batch
    from parallel.planner.communication.traffic import steps_to_settle
    from parallel.planner.trace.trace import _fewest_micro_batches

    layout = case.layout
    with fake_world(layout.world_size, rank) as reads, engine_of(case) as engine:
        count = max(_fewest_micro_batches(layout), 2)
        tokens = torch.zeros(layout.micro_batch, case.shape.context + 1, dtype=torch.long)
        batch = Batch(micro_batches=[tokens] * count)
        for _ in range(steps_to_settle(layout)):
            engine.train_step(batch, ADAM.learning_rate)
        reads.clear()
        functions.waits.clear()
        engine.train_step(batch, ADAM.learning_rate)
        found = {"reads": dict(reads), "waits": dict(functions.waits)}
        engine.evaluate(batch)
        exported = [tensors for _, tensors in engine.export_state()]
        places = {
            "parameters": {str(named.tensor.device) for named in engine.named_tensors()},
            "masters": {str(tensors.master.device) for tensors in exported},
        }
        return {**found, **{kind: sorted(devices) for kind, devices in places.items()}}


@contextmanager
def engine_of(case: Case) -> Iterator[Any]:
    """The rank's engine, as the product builds it on CUDA."""
    from parallel.planner.trace.fake_deepspeed import shapes_known
    from parallel.runtime.device import Device
    from parallel.runtime.process_groups import process_groups

    here = Device(DeviceName.cuda, CUDA, "nccl")
    common: dict[str, Any] = {"precision": case.precision, "device": here, "seed": SEED}
    with process_groups(case.layout, SEED), redirect_stdout(io.StringIO()):
        if case.engine is MEGATRON:
            from parallel.engines.megatron.engine import MegatronEngine

            yield MegatronEngine(case.shape, case.layout, ADAM, **common, cuda=case.cuda)
            return
        from parallel.engines.deepspeed.engine import DeepSpeedEngine
        from parallel.engines.deepspeed.groups import deepspeed_world

        with deepspeed_world(), shapes_known(case.shape, case.layout, case.precision):
            yield DeepSpeedEngine(
                case.shape, case.layout, ADAM, case.engine, global_batch=GLOBAL_BATCH, **common
            )


def main() -> None:
    """Runs the cases whose names contain the argument; all without one."""
    functions.install()
    warnings.simplefilter("ignore")
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    for case in CASES:
        for rank in traced_ranks(case.layout):
            label = f"{case} rank {rank}"
            if wanted not in label:
                continue
            try:
                said = run(case, rank)
            except Exception:
                said = {"error": traceback.format_exc()}
            print(json.dumps({"case": label, **said}), flush=True)


if __name__ == "__main__":
    main()
