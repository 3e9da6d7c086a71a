"""`phalanx convert`: a checkpoint to and from Hugging Face's GPT-2 format.

`run_dir=RUN convert.to=DIR` (or `checkpoint=...`) writes model.safetensors, config.json and the
tokenizer, in `precision`. `convert.source=DIR run_dir=RUN` creates a run from such a folder, for
generation or further training. Only weights are converted: Hugging Face's format has no optimizer
states.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from configs.atomic import atomic_folder
from configs.errors import InputError
from configs.override import override, shell_command
from configs.schema import Run
from corpus.tokenizer.special_tokens import AskedTokens
from corpus.tokenizer.tokenizer import Tokenizer
from launcher.command_line.compose import compose_run, hydra_app, merge_overrides
from launcher.inference.hf_folder import Gpt2Folder
from launcher.run.ownership import owning
from launcher.run.run_dir import RunFolder
from models.shape import ModelShape, to_json
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState

if TYPE_CHECKING:
    from torch import Tensor

SHARD = "5GB"


def convert(run: Run, overrides: list[str]) -> None:
    """Exports or imports. Raises InputError unless exactly one of the two is requested."""
    if (run.convert.to is None) == (run.convert.source is None):
        raise InputError(
            "convert: needs convert.to=DIR, to write a checkpoint in Hugging Face's format, or "
            "convert.source=DIR, to read one"
        )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if run.convert.to is not None:
        _export(run, Path(run.convert.to).expanduser().resolve(), console)
    else:
        _import(run, overrides, console)


def _export(run: Run, target: Path, console: Console) -> None:
    source = run.checkpoint or run.run_dir
    if source is None:
        raise InputError("checkpoint=null: convert.to needs checkpoint=DIR or run_dir=DIR")
    checkpoint = manifest.find(Path(source).expanduser())
    shape = manifest.shape_in(checkpoint)
    from models.huggingface import gpt2_config, require_gpt2, to_gpt2

    require_gpt2(shape)
    from huggingface_hub import save_torch_state_dict

    from parallel.checkpoint.tensors import read_tensors
    from parallel.runtime.dtypes import DTYPES

    masters = read_tensors(checkpoint, ("master",))
    weights = to_gpt2({name.partition(".")[2]: it for name, it in masters.items()}, shape)
    weights = {name: weight.to(DTYPES[run.precision]) for name, weight in weights.items()}
    kept = checkpoint / manifest.TOKENIZER
    tokenizer = Tokenizer.load(kept) if kept.exists() else None
    end = None if tokenizer is None else tokenizer.end_of_text
    with atomic_folder("convert.to", target) as filling:
        folder = filling.folder
        save_torch_state_dict(weights, folder, max_shard_size=SHARD)
        for file in folder.iterdir():  # safetensors makes them readable by the owner only
            file.chmod(0o666 & ~_umask())
        _write_json(folder / "config.json", gpt2_config(shape, run.precision.value, end))
        if tokenizer is not None:
            (folder / manifest.TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
            _write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer, shape))
    console.print(
        f"wrote {target}: {shape.parameters:,} parameters, {run.precision}, "
        f"vocabulary {shape.vocab:,} without padding"
    )


def _import(run: Run, overrides: list[str], console: Console) -> None:
    source = Path(str(run.convert.source)).expanduser().resolve()
    if run.run_dir is None:
        raise InputError("run_dir=null: convert.source needs run_dir=DIR, the run to be made")
    folder = RunFolder(Path(run.run_dir).expanduser().resolve())
    given = Gpt2Folder(source, f"convert.source={source}", AskedTokens.of(run.model))
    shape = given.shape()
    with owning(folder.path, run.launch.lease_s):
        if folder.has_entries():
            raise InputError(f"{override('run_dir', run.run_dir)}: is there already; give another")
        _make_run(run, given, shape, folder, overrides)
    command = shell_command("phalanx", "generate", override("run_dir", run.run_dir))
    console.print(f"wrote {folder.path}: {shape.parameters:,} parameters\n{command}")


def _make_run(
    run: Run, given: Gpt2Folder, shape: ModelShape, folder: RunFolder, overrides: list[str]
) -> None:
    from parallel.checkpoint.tensors import write_tensors

    weights = given.weights()
    state = TrainState(
        step=0,
        samples=0,
        tokens=0,
        seed=run.train.seed,
        corpus="",
        adam_step=0,
        scaler={},
        model=to_json(shape),
    )
    kept = folder.path / manifest.TOKENIZER
    with given.tokenizer() as tokenizer:
        write_tensors(_with_moments(weights), state, tokenizer, folder.checkpoints)
        # The checkpoint's copy goes when newer checkpoints replace it.
        shutil.copyfile(tokenizer, kept)
    made = compose_run(_overrides(given.path.name, shape, kept, overrides))
    folder.write(made, made, "")


def _with_moments(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with zero moments, as in a run before its first step."""
    import torch

    tensors = {f"master.{name}": weight for name, weight in weights.items()}
    for kind in ("exp_avg", "exp_avg_sq"):
        tensors |= {f"{kind}.{name}": torch.zeros_like(it) for name, it in weights.items()}
    return tensors


def _overrides(name: str, shape: ModelShape, tokenizer: Path, given: list[str]) -> list[str]:
    fixed = list(_settings("model", {"name": name, **to_json(shape)}))
    kept = [it for it in given if not it.startswith(("convert.", "run_dir="))]
    return merge_overrides(
        [override("model.tokenizer", str(tokenizer)), "layout=single", *fixed], kept
    )


def _settings(group: str, values: dict[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _settings(f"{group}.{key}", value)
        else:
            yield override(f"{group}.{key}", value)


def _tokenizer_config(tokenizer: Tokenizer, shape: ModelShape) -> dict[str, Any]:
    special = tokenizer.special
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "bos_token": special.begin or special.end,
        "eos_token": special.end,
        "unk_token": special.end,
    }


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


app = hydra_app(convert)
