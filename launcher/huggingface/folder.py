"""A folder in one of Hugging Face's formats: config.json, safetensors, a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from configs.errors import InputError
from configs.reading import is_plain_name, read_small
from corpus.tokenizer.special_tokens import AskedTokens
from models.huggingface.families import family_of
from models.huggingface.family import Family
from models.huggingface.keys import CONFIG
from models.layer_table import WORDS
from models.shape import ModelShape
from parallel.checkpoint import manifest

if TYPE_CHECKING:
    from models.huggingface.reading import Weights

_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
_SUFFIX = ".safetensors"
_READABLE = ("F32", "BF16", "F16")
_PICKLED = (
    "; {}, which is there, may run code when it is read and is left alone; nearest: the model "
    "saved by save_pretrained of transformers, which writes safetensors"
)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor as the header of its file describes it."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class HuggingFaceFolder:
    """A model in a format that is known. Every method raises InputError if the folder's is not.

    Attributes:
        setting: the setting that named the folder, with its value.
        asked: the special tokens that settings name.
    """

    path: Path
    setting: str
    asked: AskedTokens = field(default_factory=AskedTokens)

    def shape(self) -> ModelShape:
        """From config.json, checked against the size of the weights."""
        with self.named():
            return self._family_and_shape()[1]

    def weights(self) -> Weights:
        """Its parameters, of which nothing is read yet but what there is of them."""
        from models.huggingface.reading import Weights

        with self.named():
            family, shape, stored = self._checked()
            return Weights(family, shape, {name: it.file for name, it in stored.items()})

    def require_whole(self) -> None:
        """Checks what `weights` does, and that a stored output layer is the embedding it is tied
        to, which reads both.
        """
        with self.named():
            family, shape, stored = self._checked()
            output = f"{family.output}.weight"
            if shape.tied and output in stored:
                (words,) = family.origins(shape)[WORDS].shapes()
                _require_equal(stored, words, output)

    @contextmanager
    def tokenizer(self) -> Iterator[Path]:
        """Its tokenizer.json, with the roles of its tokens; without one, GPT-2's if the vocabulary
        sizes match.
        """
        text, size = self._tokenizer_json()
        vocab = self.shape().vocab
        if size > vocab:
            raise InputError(
                f"{self.setting}: its tokenizer has {size:,} tokens, its model knows {vocab:,}"
            )
        with TemporaryDirectory() as scratch:
            made = Path(scratch) / manifest.TOKENIZER
            made.write_text(text, encoding="utf-8")
            yield made

    def _tokenizer_json(self) -> tuple[str, int]:
        from corpus.tokenizer.vocabulary import GPT2_SIZE, gpt2, published

        if self.has_tokenizer():
            return published(self.path, self.asked, self.setting)
        vocab = self.shape().vocab
        if vocab != GPT2_SIZE:
            raise InputError(
                f"{self.setting}: there is no {manifest.TOKENIZER} in it, and its "
                f"vocabulary of {vocab:,} is not GPT-2's; nearest: the model's own, saved into it "
                "by save_pretrained of transformers' AutoTokenizer"
            )
        return gpt2(vocab).make(()), vocab

    def has_tokenizer(self) -> bool:
        """Whether there is a tokenizer.json."""
        return (self.path / manifest.TOKENIZER).exists()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Names the setting in what is raised inside the block."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.setting}: {error}") from None

    def _family_and_shape(self) -> tuple[Family, ModelShape]:
        config = _read_json(self.path / CONFIG)
        family = family_of(config)
        shape = family.shape(config)
        stored = sum(path.stat().st_size for path in _weight_files(self.path))
        if shape.parameters > stored:  # each takes at least one byte
            raise InputError(
                f"{CONFIG} tells of {shape.parameters:,} parameters, and its weights have "
                f"{stored:,} bytes"
            )
        return family, shape

    def _checked(self) -> tuple[Family, ModelShape, dict[str, _Stored]]:
        """The family with the prefix that its names have here, the shape, and all tensors."""
        family, shape = self._family_and_shape()
        stored = _stored(self.path)
        if not any(name.startswith(family.prefix) for name in stored):
            family = replace(family, prefix="")
        needed = {
            name: size
            for origin in family.origins(shape).values()
            for name, size in origin.shapes().items()
        }
        for name, size in needed.items():
            if name not in stored:
                raise InputError(f"{name}: is not among the weights")
            if stored[name].shape != size:
                raise InputError(f"{name}: is {stored[name].shape}, {CONFIG} tells of {size}")
            if stored[name].dtype not in _READABLE:
                raise InputError(
                    f"{name}: has numbers of {stored[name].dtype}; nearest: {_READABLE[1]}"
                )
        tied = f"{family.output}.weight"
        for name in stored.keys() - needed.keys():
            if not family.is_buffer(name) and not (shape.tied and name == tied):
                raise InputError(f"{name}: {CONFIG} tells of no such tensor")
        return family, shape, stored


def _weight_files(source: Path) -> list[Path]:
    """One safetensors file, or those listed in an index; opens nothing else.

    Raises InputError if there are none, or the index lists a file that is not in the folder.
    """
    names: list[Any] = [_WEIGHTS]
    if (source / _INDEX).exists():
        names = list(dict.fromkeys(_index(source).values()))
    for name in names:
        if not is_plain_name(name) or not name.endswith(_SUFFIX):
            raise InputError(f"{_INDEX}: names {name!r}, which is no {_SUFFIX} file of its folder")
        if not (source / name).is_file():
            pickled = next((each.name for each in sorted(source.glob("pytorch_model*.bin"))), None)
            raise InputError(f"{name} is missing" + (_PICKLED.format(pickled) if pickled else ""))
    if names != [_WEIGHTS] and (source / _WEIGHTS).is_file():
        raise InputError(
            f"{_WEIGHTS} is there, which transformers reads, and {_INDEX}, which names other "
            "files; nearest: without one of the two"
        )
    return [source / name for name in sorted(names)]


def _index(source: Path) -> dict[str, str]:
    """The file of each tensor."""
    by_tensor = _read_json(source / _INDEX).get("weight_map")
    if not isinstance(by_tensor, dict) or not by_tensor:
        raise InputError(f"{_INDEX}: has no weight_map")
    return {name: str(file) for name, file in by_tensor.items()}


def _stored(source: Path) -> dict[str, _Stored]:
    """Every tensor of the folder. Raises InputError if the index says something else."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, _Stored] = {}
    for path in _weight_files(source):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118, it is no mapping
                    tensor = file.get_slice(name)
                    if name in found:
                        raise InputError(f"{name}: is in {found[name].file.name} and {path.name}")
                    found[name] = _Stored(path, tuple(tensor.get_shape()), tensor.get_dtype())
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path.name}: {_what_is_wrong(path, error)}") from None
    if (source / _INDEX).exists():
        said = _index(source)
        for name, file in said.items():
            if name not in found or found[name].file.name != file:
                raise InputError(f"{_INDEX}: names {name} in {file}, where it is not")
        for name in found.keys() - said.keys():
            raise InputError(f"{_INDEX}: does not name {name}, which {found[name].file.name} has")
    return found


def _what_is_wrong(path: Path, error: Exception) -> str:
    from models.huggingface.read_once import told_size

    size, told = path.stat().st_size, told_size(path)
    if told is not None and told > size:
        return f"is cut short: its header tells of {told:,} bytes, it has {size:,}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"is no file of safetensors ({' '.join(str(error).split())})"


def _require_equal(stored: dict[str, _Stored], words: str, output: str) -> None:
    """Raises InputError unless two tensors are the same, of which some rows are read at a time."""
    import torch
    from safetensors import safe_open

    rows_at_once = 1 << 14
    same = stored[words].shape == stored[output].shape
    for first in range(0, stored[words].shape[0] if same else 0, rows_at_once):
        parts = []
        for name in (words, output):
            with safe_open(stored[name].file, "pt") as file:
                parts.append(file.get_slice(name)[first : first + rows_at_once].clone())
        same = same and torch.equal(*parts)
    if not same:
        raise InputError(
            f"{output}: differs from {words}, which {CONFIG} ties it to; nearest: "
            "tie_word_embeddings=false in it, if the two differ on purpose"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_small(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"no readable {path.name} ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path.name}: is not a JSON object")
    return found
