"""A folder in Hugging Face's GPT-2 format: config.json, safetensors, a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from configs.errors import InputError
from configs.reading import is_plain_name, read_small
from corpus.tokenizer.special_tokens import AskedTokens
from models.shape import ModelShape
from parallel.checkpoint import manifest

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
_SUFFIX = ".safetensors"
_PICKLED = (
    "; {}, which is there, may run code when it is read and is left alone; nearest: the model "
    "saved by save_pretrained of transformers, which writes safetensors"
)


@dataclass(frozen=True, slots=True)
class Gpt2Folder:
    """A model in GPT-2's format. Every method raises InputError if the folder is not supported.

    Attributes:
        setting: the setting that named the folder, with its value.
        asked: the special tokens that settings name.
    """

    path: Path
    setting: str
    asked: AskedTokens = field(default_factory=AskedTokens)

    def shape(self) -> ModelShape:
        """From config.json, checked against the size of the weights."""
        from models.huggingface import shape_of_gpt2

        with self._named():
            shape = shape_of_gpt2(_read_json(self.path / CONFIG))
            stored = sum(path.stat().st_size for path in _weight_files(self.path))
            if shape.parameters > stored:  # each takes at least one byte
                raise InputError(
                    f"{CONFIG} tells of {shape.parameters:,} parameters, and its weights have "
                    f"{stored:,} bytes"
                )
            return shape

    def weights(self) -> dict[str, Tensor]:
        """Unsharded float32 tensors by our global names."""
        from models.huggingface import from_gpt2

        shape = self.shape()
        with self._named():
            return from_gpt2(_read_weights(self.path), shape)

    @contextmanager
    def tokenizer(self) -> Iterator[Path]:
        """Its tokenizer.json, with the roles of its tokens; without one, GPT-2's if the vocabulary
        sizes match.
        """
        with TemporaryDirectory() as scratch:
            made = Path(scratch) / manifest.TOKENIZER
            made.write_text(self._tokenizer_json(), encoding="utf-8")
            yield made

    def _tokenizer_json(self) -> str:
        from corpus.tokenizer.vocabulary import GPT2_SIZE, gpt2, published

        if (self.path / manifest.TOKENIZER).exists():
            return published(self.path, self.asked)[0]
        vocab = self.shape().vocab
        if vocab != GPT2_SIZE:
            raise InputError(
                f"{self.setting}: there is no {manifest.TOKENIZER} in it, and its "
                f"vocabulary of {vocab:,} is not GPT-2's"
            )
        return gpt2(vocab).make(())

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.setting}: {error}") from None


def _weight_files(source: Path) -> list[Path]:
    """One safetensors file, or those listed in an index; opens nothing else.

    Raises InputError if there are none, or the index lists a file that is not in the folder.
    """
    names: list[Any] = [_WEIGHTS]
    if (source / _INDEX).exists():
        by_tensor = _read_json(source / _INDEX).get("weight_map")
        if not isinstance(by_tensor, dict) or not by_tensor:
            raise InputError(f"{_INDEX}: has no weight_map")
        names = list(dict.fromkeys(map(str, by_tensor.values())))
    for name in names:
        if not is_plain_name(name) or not name.endswith(_SUFFIX):
            raise InputError(f"{_INDEX}: names {name!r}, which is no {_SUFFIX} file of its folder")
        if not (source / name).is_file():
            pickled = next((each.name for each in sorted(source.glob("pytorch_model*.bin"))), None)
            raise InputError(f"{name} is missing" + (_PICKLED.format(pickled) if pickled else ""))
    return [source / name for name in sorted(names)]


def _read_weights(source: Path) -> dict[str, Tensor]:
    """All tensors of the folder."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    for path in _weight_files(source):
        try:
            weights |= load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path.name}: {' '.join(str(error).split())}") from None
    return weights


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_small(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"no readable {path.name} ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path.name}: is not a JSON object")
    return found
