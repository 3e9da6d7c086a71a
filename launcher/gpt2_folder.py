"""A folder in Hugging Face's GPT-2 format: config.json, safetensors, a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from configs.errors import InputError
from models.shape import ModelShape
from parallel import checkpoint_files

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"


@dataclass(frozen=True, slots=True)
class Gpt2Folder:
    """Every method raises InputError where the folder is not one of a GPT-2 as ours.

    Attributes:
        setting: that named the folder, and its value.
    """

    path: Path
    setting: str

    def shape(self) -> ModelShape:
        from models.huggingface import shape_of_gpt2

        with self._named():
            return shape_of_gpt2(_read_json(self.path / CONFIG))

    def weights(self) -> dict[str, Tensor]:
        """Whole, float32, by our global names."""
        from models.huggingface import from_gpt2

        shape = self.shape()
        with self._named():
            return from_gpt2(_read_weights(self.path), shape)

    @contextmanager
    def tokenizer(self) -> Iterator[Path]:
        """Its tokenizer.json; without one, GPT-2's if the vocabulary has its size."""
        path = self.path / checkpoint_files.TOKENIZER
        if path.exists():
            yield path
            return
        from corpus.vocabulary import GPT2_SIZE, gpt2

        vocab = self.shape().vocab
        if vocab != GPT2_SIZE:
            raise InputError(
                f"{self.setting}: there is no {checkpoint_files.TOKENIZER} in it, and its "
                f"vocabulary of {vocab:,} is not GPT-2's"
            )
        with TemporaryDirectory() as scratch:
            made = Path(scratch) / checkpoint_files.TOKENIZER
            made.write_text(gpt2(vocab).make(()), encoding="utf-8")
            yield made

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.setting}: {error}") from None


def _read_weights(source: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors file, or of the files that an index names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    names = [_WEIGHTS]
    if (source / _INDEX).exists():
        names = sorted(set(_read_json(source / _INDEX)["weight_map"].values()))
    weights: dict[str, Tensor] = {}
    for name in names:
        try:
            weights |= load_file(source / name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{name}: {' '.join(str(error).split())}") from None
    return weights


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"no readable {path.name} ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path.name}: is not a JSON object")
    return found
