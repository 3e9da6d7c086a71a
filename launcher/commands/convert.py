"""`phalanx convert`: a checkpoint to and from Hugging Face's formats.

`run_dir=RUN convert.to=DIR` (or `checkpoint=...`) writes safetensors, config.json and the
tokenizer, in `precision`. `convert.source=DIR run_dir=RUN` creates a run from such a folder, for
generation or further training. Only weights are converted: Hugging Face's formats have no optimizer
states. Neither way holds more than a few rows of a model in memory.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from configs.errors import InputError, RunError
from configs.override import override, shell_command
from configs.schema import Run
from corpus.tokenizer.special_tokens import AskedTokens
from launcher.command_line.compose import compose_run, hydra_app, merge_overrides
from launcher.huggingface.begin import with_model_of
from launcher.huggingface.export import export, parameters
from launcher.huggingface.folder import HuggingFaceFolder
from launcher.run.host_memory import context_fault, largest_context
from launcher.run.ownership import owning
from launcher.run.run_dir import RunFolder
from launcher.run.settings import key_of
from models.huggingface.families import family_for, named
from models.shape import ModelShape
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState
from parallel.rules import check_model

if TYPE_CHECKING:
    from torch import Tensor

    from models.huggingface.reading import Weights


def convert(run: Run, overrides: list[str]) -> None:
    """Exports or imports. Raises InputError unless exactly one of the two is requested."""
    if (run.convert.to is None) == (run.convert.source is None):
        raise InputError(
            "convert: needs convert.to=DIR, to write a checkpoint in one of Hugging Face's "
            "formats, or convert.source=DIR, to read one"
        )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    with _one_core_a_file(), _cleaning_up_when_ended():
        if run.convert.to is not None:
            _export(run, Path(run.convert.to).expanduser().resolve(), console)
        else:
            _import(run, overrides, console)


@contextmanager
def _one_core_a_file() -> Iterator[None]:
    """Threads that pass over files by themselves would wait for the helpers that torch gives each
    of them.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _cleaning_up_when_ended() -> Iterator[None]:
    """SIGTERM ends the block as an interrupt does, so that nothing is left half-written."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _export(run: Run, target: Path, console: Console) -> None:
    source = run.checkpoint or run.run_dir
    if source is None:
        raise InputError("checkpoint=null: convert.to needs checkpoint=DIR or run_dir=DIR")
    family = run.convert.family
    if family is not None:
        _require_family(family)
    checkpoint = manifest.find(Path(source).expanduser())
    shape = manifest.shape_in(checkpoint)
    kind = family_for(shape, family)
    precision = run.precision.stored
    export(checkpoint, shape, kind, precision, target)
    console.print(
        f"wrote {target}: {kind.model_type}, {shape.parameters:,} parameters, {precision}, "
        f"vocabulary {shape.vocab:,} without padding"
    )


def _require_family(family: str) -> None:
    try:
        named(family)
    except InputError as error:
        raise InputError(f"{override('convert.family', family)}: {error}") from None


def _import(run: Run, overrides: list[str], console: Console) -> None:
    source = Path(str(run.convert.source)).expanduser().resolve()
    if run.run_dir is None:
        raise InputError("run_dir=null: convert.source needs run_dir=DIR, the run to be made")
    _require_effect(run, source, overrides)
    folder = RunFolder(Path(run.run_dir).expanduser().resolve())
    setting = override("convert.source", str(run.convert.source))
    given = HuggingFaceFolder(source, setting, AskedTokens.of(run.model))
    made = _run_of(given, overrides)
    weights = given.weights()
    given.require_whole()
    with owning(folder.path, run.launch.lease_s), _whole_or_nothing(run.run_dir, folder):
        _make_run(made, given, weights, folder)
    command = shell_command("phalanx", "generate", override("run_dir", run.run_dir))
    console.print(f"wrote {folder.path}: {weights.shape.parameters:,} parameters\n{command}")


def _require_effect(run: Run, source: Path, overrides: list[str]) -> None:
    """Raises InputError for a setting that an import has no use for."""
    typed = {key_of(each): each for each in overrides}
    for key, why in (
        ("convert.family", "is for convert.to; a folder's config.json says what it is"),
        ("checkpoint", "convert.source is where the weights come from"),
        ("model.tokenizer", f"the tokenizer is the folder's own; nearest: it in {source}"),
    ):
        if key in typed and typed[key] != f"{key}=null":
            raise InputError(f"{typed[key]}: has no effect with convert.source: {why}")


def _run_of(given: HuggingFaceFolder, overrides: list[str]) -> Run:
    """The run that is made: with the folder's network, but for what was typed, checked as training
    would check it.
    """
    kept = [it for it in overrides if not it.startswith(("convert.", "run_dir="))]
    composed = compose_run(merge_overrides(["layout=single"], kept))
    made = with_model_of(given, composed, [key_of(each) for each in kept])
    try:
        check_model(made)
    except InputError as error:
        raise InputError(f"{given.setting}: {error}") from None
    shape = ModelShape.of(made.model)
    if fault := context_fault(shape):
        nearest = override("model.context", largest_context(shape))
        raise InputError(f"{given.setting}: {fault}; nearest: {nearest}")
    return made


@contextmanager
def _whole_or_nothing(run_dir: str, folder: RunFolder) -> Iterator[None]:
    """All that is written inside the block stays, or nothing of it.

    What a conversion left that was killed makes room. Raises InputError if anything else is there,
    or the disk is full.
    """
    setting = override("run_dir", run_dir)
    if folder.is_converting():
        folder.clear()
    if folder.has_entries():
        raise InputError(f"{setting}: is there already; give another")
    try:
        try:
            folder.converting.touch()
            yield
            folder.converting.unlink()
        except BaseException:
            folder.clear()
            raise
    except OSError as error:
        raise InputError(f"{setting}: {error.strerror or error}") from None
    except RunError as error:
        raise InputError(f"{setting}: {error}") from None


def _make_run(made: Run, given: HuggingFaceFolder, weights: Weights, folder: RunFolder) -> None:
    import torch

    from parallel.checkpoint.shards import Streamed
    from parallel.checkpoint.tensors import write_tensors

    shape = ModelShape.of(made.model)
    masters = {
        f"master.{name}": Streamed(torch.Size(each.shape), partial(_stream, given, weights, name))
        for name, each in parameters(shape).items()
    }
    state = TrainState.before_training(shape, made.train.seed)
    kept = folder.path / manifest.TOKENIZER
    with given.tokenizer() as tokenizer:
        write_tensors(masters, state, tokenizer, folder.checkpoints)
        # The checkpoint's copy goes when newer checkpoints replace it.
        shutil.copyfile(tokenizer, kept)
    made = replace(made, model=replace(made.model, tokenizer=str(kept)))
    folder.write(made, made, "")


def _stream(given: HuggingFaceFolder, weights: Weights, name: str, out: Tensor, first: int) -> None:
    with given.named():
        weights.stream(name, out, first)


app = hydra_app(convert)
