"""On one GPU, by commands as a user types them: training, checkpoints and text beside the CPU's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from configs.schema import DeviceName, EngineConfig
from parallel.parity import Tolerance
from tests.gpu.kit import Check
from tests.gpu.machine import Machine, same, trace_of

pytestmark = pytest.mark.gpu

STEPS, SAVED_AT = 4, 2
TRAIN = ["train", "layout=single", f"train.steps={STEPS}", f"train.save_every={SAVED_AT}"]
GREEDY = ["generate", "layout=single", "generate.temperature=0", "generate.tokens=24"]


@pytest.fixture(scope="module")
def here(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps on this device, saved beside training after two and after four."""
    run = tmp_path_factory.mktemp("here") / "run"
    machine.phalanx(*TRAIN, *machine.settings, "train.async_save=true", run_dir=run)
    return run


def saved(run: Path) -> str:
    """A checkpoint in the middle of a run."""
    return str(run / "checkpoints" / f"step_{SAVED_AT:08}")


def test_trains_as_the_cpu_does(
    machine: Machine, here: Path, check: Check, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    machine.phalanx(*TRAIN, *machine.settings, run_dir=run, device=DeviceName.cpu)
    same(check, trace_of(here), trace_of(run))


def test_a_save_beside_training_is_one_that_is_waited_for(
    machine: Machine, here: Path, check: Check, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    machine.phalanx(*TRAIN, *machine.settings, "train.async_save=false", run_dir=run)
    same(check, trace_of(here), trace_of(run))


@pytest.mark.parametrize("where", ["this device", "the CPU"])
def test_goes_on_from_a_checkpoint_of_this_device(
    machine: Machine, here: Path, check: Check, tmp_path: Path, where: str
) -> None:
    """On the same device, and on a CPU: the next step's loss and all that follow."""
    run = tmp_path / "run"
    machine.phalanx(
        *TRAIN,
        *machine.settings,
        f"checkpoint={saved(here)}",
        run_dir=run,
        device=DeviceName.cpu if where == "the CPU" else machine.device,
    )
    same(check, trace_of(run), trace_of(here, first=SAVED_AT + 1))


def test_writes_what_the_cpu_writes(machine: Machine, here: Path, check: Check) -> None:
    """The likeliest token each time: one that differs would change all that follow."""
    texts = [
        machine.phalanx(*GREEDY, run_dir=here, device=device).output
        for device in (machine.device, DeviceName.cpu)
    ]
    check.note("characters", float(len(texts[0])))
    assert texts[0] == texts[1]
    assert len(texts[0]) > len("The ")


def test_layers_of_transformer_engine_are_ours(
    machine: Machine, check: Check, tmp_path: Path
) -> None:
    if "layers" not in EngineConfig.__dataclass_fields__:
        pytest.skip("the setting engine.layers is not there")
    machine.needs_cuda("Transformer Engine needs CUDA")
    if importlib.util.find_spec("transformer_engine") is None:
        pytest.skip("Transformer Engine is not installed")
    traces = []
    for layers in ("transformer_engine", "local"):
        run = tmp_path / layers
        machine.phalanx(
            *TRAIN, *machine.settings, f"engine.layers={layers}", "precision=bf16", run_dir=run
        )
        traces.append(trace_of(run))
    # Other kernels that round bf16 at other places: as float32 and bf16 are apart in test_engines.
    same(check, traces[0], traces[1], Tolerance(first_step=2e-2, steps=5e-2, tensors=0.5))
