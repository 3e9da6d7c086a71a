"""Training that begins with the weights of a folder of Hugging Face's.

The network and the tokenizer are the folder's, but for what is typed: a shorter context, say, or
positions stretched to a longer one. Every rank reads its own part of the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from configs.settings.network import ModelConfig
from corpus.tokenizer.special_tokens import AskedTokens
from launcher.huggingface.folder import HuggingFaceFolder
from models.huggingface.experts import TRAINED_BY
from models.huggingface.same import settings, value
from models.shape import ModelShape
from parallel.checkpoint import manifest

if TYPE_CHECKING:
    from parallel.engines.base import Engine, OptimizerTensors, ParameterPart

_MODEL = "model."


def folder_of(run: Run) -> HuggingFaceFolder | None:
    """The folder that `checkpoint` names, if it is one of Hugging Face's."""
    if run.checkpoint is None:
        return None
    path = Path(run.checkpoint).expanduser().resolve()
    if not manifest.is_huggingface(path):
        return None
    return HuggingFaceFolder(
        path, override("checkpoint", run.checkpoint), AskedTokens.of(run.model)
    )


def with_its_model(run: Run, typed: Sequence[str]) -> Run:
    """The run with the folder's network and tokenizer, if it begins with one; else as it is.

    Args:
        typed: settings whose values stay.

    Raises InputError if the folder is not supported, or does not fit what was typed.
    """
    folder = folder_of(run)
    if folder is None:
        return run
    return replace(with_model_of(folder, run, typed), checkpoint=str(folder.path))


def with_model_of(folder: HuggingFaceFolder, run: Run, typed: Sequence[str]) -> Run:
    """The run with a folder's network and tokenizer, but for settings that were typed.

    Raises InputError if the folder is not supported, or does not fit what was typed.
    """
    shape = folder.shape()
    theirs = {"name": folder.path.name, **shape.settings()}
    if shape.moe.experts and run.model.moe.experts:
        told = {name: getattr(run.model.moe, name) for name in TRAINED_BY}
        theirs["moe"] = replace(shape.moe, **told)
    if f"{_MODEL}tokenizer" not in typed:
        with folder.tokenizer():  # one that can be used
            theirs["tokenizer"] = str(folder.path) if folder.has_tokenizer() else "gpt2"
    model = but_for_typed(run.model, theirs, typed)
    require_same_parameters(folder, shape, ModelShape.of(model))
    return replace(run, model=model)


def but_for_typed(model: ModelConfig, theirs: dict[str, Any], typed: Sequence[str]) -> ModelConfig:
    """The model with these values, but for those of settings that were typed."""
    names = {key.removeprefix(_MODEL) for key in typed if key.startswith(_MODEL)}
    for group in ("rotary", "moe"):
        inside = [name.partition(".")[2] for name in names if name.startswith(f"{group}.")]
        kept = {name: getattr(getattr(model, group), name) for name in inside}
        theirs = {**theirs, group: replace(theirs[group], **kept)}
    return replace(model, **{name: it for name, it in theirs.items() if name not in names})


def require_same_parameters(folder: HuggingFaceFolder, there: ModelShape, here: ModelShape) -> None:
    """Raises InputError unless both have the same parameters."""
    if _parameters(here) == _parameters(there):
        return
    differ = [name for name in settings(here) if value(here, name) != value(there, name)]
    at_fault = [
        name
        for name in differ
        if _parameters(_with(there, name, value(here, name))) != _parameters(there)
    ]
    name = (at_fault or differ)[0]
    raise InputError(
        f"{override(_MODEL + name, value(here, name))}: {folder.setting} has weights of another "
        f"shape; nearest: {override(_MODEL + name, value(there, name))}"
    )


def _parameters(shape: ModelShape) -> tuple[object, ...]:
    # Of how many experts a token is sent to the weights know nothing.
    forms = [replace(shape.form(layer), top_k=0) for layer in range(shape.layers)]
    return forms, shape.outside_layers


def _with(shape: ModelShape, setting: str, said: Any) -> ModelShape:
    outer, _, inner = setting.partition(".")
    changed = replace(getattr(shape, outer), **{inner: said}) if inner else said
    return replace(shape, **{outer: changed})


def load(engine: Engine, run: Run) -> manifest.TrainState:
    """Loads the folder's weights into the engine, with moments of 0; collective.

    Raises InputError if `checkpoint` is no such folder, or not one of this model.
    """
    folder, here = folder_of(run), ModelShape.of(run.model)
    assert folder is not None, "is_huggingface comes first"
    require_same_parameters(folder, folder.shape(), here)
    engine.import_state(_read(folder, engine.parameters()), adam_step=0)
    return manifest.TrainState.before_training(here, run.train.seed)


def _read(
    folder: HuggingFaceFolder, parts: list[ParameterPart]
) -> Iterator[tuple[ParameterPart, OptimizerTensors]]:
    import torch

    from parallel.engines.base import OptimizerTensors

    weights = folder.weights()
    for at in parts:
        master = weights.part(at.name, at.part, tuple(at.shape))
        moments = torch.zeros_like(master), torch.zeros_like(master)
        yield at, OptimizerTensors(master=master, exp_avg=moments[0], exp_avg_sq=moments[1])
