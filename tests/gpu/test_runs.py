"""On one GPU, by commands as a user types them: training, checkpoints and text beside the CPU's."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from configs.schema import DeviceName, Precision
from configs.settings.cuda import Fp8Scaling
from parallel.parity import Tolerance
from tests.gpu.kit import Check
from tests.gpu.machine import Machine, same, trace_of

pytestmark = pytest.mark.gpu

STEPS, SAVED_AT = 4, 2
TRAIN = ["train", "layout=single", f"train.steps={STEPS}", f"train.save_every={SAVED_AT}"]
# One sentence, which a model learns within seconds: untrained ones repeat a single token.
SENTENCE = "The quick brown fox jumps over the lazy dog, and the dog sleeps on.\n"
LEARN = ["train", "layout=single", "train.steps=40", "train.save_every=0", "train.eval_every=0"]
LEARN += ["optimizer.learning_rate=5e-3", "optimizer.warmup_tokens=0"]
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


def test_trains_as_the_cpu_does(machine: Machine, here: Path, check: Check, tmp_path: Path) -> None:
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


def test_writes_what_the_cpu_writes(machine: Machine, check: Check, tmp_path: Path) -> None:
    """The likeliest token each time: one that differs would change all that follow."""
    run, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_text(600 * SENTENCE, encoding="utf-8")
    machine.phalanx(*LEARN, *machine.settings, f"corpus.text={text}", run_dir=run)
    texts = [
        machine.phalanx(*GREEDY, run_dir=run, device=device).output
        for device in (machine.device, DeviceName.cpu)
    ]
    check.note(f"this device wrote {texts[0]!r}", None)
    check.note(f"the CPU wrote {texts[1]!r}", None)
    assert texts[0] == texts[1]
    assert len(set(texts[0].removeprefix("The "))) > 3, "too little for a comparison"


def needs_transformer_engine(machine: Machine) -> None:
    machine.needs_cuda("Transformer Engine needs CUDA")
    if importlib.util.find_spec("transformer_engine") is None:
        pytest.skip("Transformer Engine is not installed")


def test_layers_of_transformer_engine_are_ours(
    machine: Machine, check: Check, tmp_path: Path
) -> None:
    needs_transformer_engine(machine)
    traces = []
    for layers in ("transformer_engine", "local"):
        run = tmp_path / layers
        machine.phalanx(
            *TRAIN, *machine.settings, f"cuda.layers={layers}", "precision=bf16", run_dir=run
        )
        traces.append(replace(trace_of(run), tensors={}))
    # Other kernels that round bf16 at other places: as far apart as it is from float32, which
    # tests/gpu/test_engines.py says.
    same(check, traces[0], traces[1], Tolerance(first_step=2e-2, steps=5e-2, tensors=0.0))


@pytest.mark.parametrize("scaling", Fp8Scaling)
def test_fp8_is_near_bf16(
    machine: Machine, check: Check, tmp_path: Path, scaling: Fp8Scaling
) -> None:
    needs_transformer_engine(machine)
    machine.needs_capability((8, 9), "FP8")
    traces = []
    for precision in ("fp8", "bf16"):
        run = tmp_path / precision
        scales = [f"cuda.fp8_scaling={scaling}"] if precision == "fp8" else []
        machine.phalanx(*TRAIN, *machine.settings, f"precision={precision}", *scales, run_dir=run)
        traces.append(replace(trace_of(run), tensors={}))
    same(check, traces[0], traces[1], Tolerance.of(Precision.fp8))


@pytest.mark.parametrize("feature", ["cuda.graphs=true", "cuda.bf16_gradients=true"])
def test_a_feature_by_choice_trains_as_without(
    machine: Machine, check: Check, tmp_path: Path, feature: str
) -> None:
    if "graphs" in feature:
        machine.needs_cuda("a CPU has no graphs")
    traces = []
    for number, chosen in enumerate(([feature], [])):
        run = tmp_path / str(number)
        machine.phalanx(*TRAIN, *machine.settings, "precision=bf16", *chosen, run_dir=run)
        traces.append(replace(trace_of(run), tensors={}))
    same(check, traces[0], traces[1], Tolerance(first_step=2e-2, steps=5e-2, tensors=0.0))
