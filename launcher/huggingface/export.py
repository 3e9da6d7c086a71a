"""A checkpoint written as a folder that transformers loads."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.atomic import atomic_folder
from configs.errors import InputError
from configs.schema import Precision
from corpus.tokenizer.special_tokens import SpecialTokens
from corpus.tokenizer.tokenizer import Tokenizer
from models.huggingface.family import Family
from models.layer_table import Parameter
from models.shape import ModelShape
from parallel.checkpoint import manifest

if TYPE_CHECKING:
    from torch import Tensor

    from models.huggingface.writing import Writer

_DTYPES = {
    Precision.float32: "float32",
    Precision.bf16: "bfloat16",
    Precision.fp16: "float16",
}


def export(
    checkpoint: Path, shape: ModelShape, family: Family, precision: Precision, target: Path
) -> None:
    """Writes weights, config.json and the tokenizer, and nothing at all if that fails.

    Raises InputError if the target is taken, the disk too small, the checkpoint damaged or a number
    of it too large for the precision.
    """
    from models.huggingface.writing import Writer, write_config
    from parallel.checkpoint.stream import stream_weights
    from parallel.runtime.dtypes import DTYPES

    kept = checkpoint / manifest.TOKENIZER
    tokenizer = Tokenizer.load(kept) if kept.exists() else None
    with atomic_folder("convert.to", target) as filling:
        folder = filling.folder
        with Writer(folder, family, shape, DTYPES[precision]) as writer:
            whole = {name: each.shape for name, each in parameters(shape).items()}
            stream_weights(checkpoint, whole, partial(_take, checkpoint, writer))
        tokens = _tokens(tokenizer)
        write_config(folder, family, shape, dtype=_DTYPES[precision], **tokens)
        if tokenizer is not None:
            (folder / manifest.TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
            _write_json(folder / "tokenizer_config.json", _tokenizer_config(tokenizer, shape))
            _write_json(folder / "generation_config.json", tokens)


def _take(
    checkpoint: Path, writer: Writer, name: str, offset: tuple[int, ...], rows: Tensor
) -> None:
    try:
        writer.take(name, offset, rows)
    except InputError as error:
        raise InputError(f"checkpoint={checkpoint}: {error}") from None


def parameters(shape: ModelShape) -> dict[str, Parameter]:
    """Every parameter by its global name."""
    found = {each.name: each for each in shape.outside_layers}
    for layer in range(shape.layers):
        found |= {f"decoder.layers.{layer}.{each.name}": each for each in shape.layer(layer)}
    return found


def _tokens(tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The numbers of the tokens that begin, end and fill a text, the end of a document first."""
    if tokenizer is None:
        return {}
    end, special = tokenizer.end_of_text, tokenizer.special
    ends = [end, *sorted(tokenizer.ends - {end})]
    begin, pad = _begin(special), special.declared.get("pad_token")
    return {
        "bos_token_id": None if begin is None else tokenizer.id_of(begin),
        "eos_token_id": ends if len(ends) > 1 else end,
        "pad_token_id": None if pad is None else tokenizer.id_of(pad),
    }


def _begin(special: SpecialTokens) -> str | None:
    """As GPT-2 does, a tokenizer of ours names the end of a text as its beginning too; one that a
    folder came with has what it had there.
    """
    if special.declared:
        return special.begin or special.declared.get("bos_token")
    return special.begin or special.end


def _tokenizer_config(tokenizer: Tokenizer, shape: ModelShape) -> dict[str, Any]:
    special = tokenizer.special
    named = {**special.declared, "bos_token": _begin(special), "eos_token": special.end}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        **{name: token for name, token in named.items() if token is not None},
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
