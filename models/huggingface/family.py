"""A family of models: a table of keys of its config.json, and one of names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from configs.errors import InputError
from configs.settings.network import Positions
from configs.words import listed
from models.huggingface.keys import CONFIG, Config, Fields, Part, fault
from models.huggingface.same import difference, value, without_effect_of
from models.huggingface.tensors import Origin, Same, Source, origin
from models.layer_table import FINAL_NORM, OUTPUT, POSITIONS, WORDS
from models.shape import ModelShape

IGNORED = frozenset(
    {
        *("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id"),
        *("initializer_range", "pretraining_tp", "torchscript", "use_bfloat16"),
        *("attention_dropout", "classifier_dropout", "hidden_dropout"),
        *("resid_pdrop", "embd_pdrop", "attn_pdrop"),
        *("return_dict", "output_attentions", "output_hidden_states", "is_llama_config"),
        *("task_specific_params", "finetuning_task", "id2label", "label2id", "problem_type"),
        *("output_router_logits", "router_jitter_noise"),
        *("do_sample", "max_length", "temperature", "top_k", "top_p"),
    }
)
"""Keys that cannot change what the network computes: training's dropout, noise and initial weights,
the numbers of special tokens (which the tokenizer has), how texts are generated, where it came
from."""

_LAYER = re.compile(r"^decoder\.layers\.(\d+)\.(.+)\.(weight|bias)$")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models with one `model_type`.

    Attributes:
        model_type, architecture: what config.json calls them.
        parts: its keys, sizes first.
        fixed: fields of a shape that all of them share.
        ignored: more keys that change nothing of the network.
        prefix: of every name but the output layer's; a model saved without it is read as well.
        layer: of the names in a layer, after the prefix; {} stands for its number.
        words, positions, norm, output: their names of what is outside the layers.
        sources: their names in a layer, by ours; {} stands for the number of an expert.
        buffers: names of tensors that the network does not need.
        transposed: matrices of layers are [inputs, outputs].
        base: the architecture without an output layer, which is enough where that is tied.
        divides: transformers refuses a width that is no multiple of the heads.
    """

    model_type: str
    architecture: str
    parts: tuple[Part, ...]
    fixed: Mapping[str, Any]
    ignored: frozenset[str] = frozenset()
    prefix: str
    layer: str
    words: str
    norm: str
    output: str = "lm_head"
    positions: str = ""
    sources: Mapping[str, Source]
    buffers: str = "$^"
    transposed: bool = False
    base: str
    divides: bool = True

    def shape(self, config: Config) -> ModelShape:
        """The network that a config.json describes.

        Raises InputError for a key that is not known, or a value that is not supported.
        """
        self._require_known(config)
        read: Fields = dict(self.fixed)
        for part in self.parts:
            read |= part.read(config)
        shape = ModelShape(**read)
        self._require_divisible(shape)
        return shape

    def config(self, shape: ModelShape) -> Fields:
        """The contents of a config.json, which may describe less than the shape (`lost`)."""
        written: Fields = {"architectures": [self.architecture], "model_type": self.model_type}
        for part in self.parts:
            written |= part.write(shape)
        return written

    def lost(self, shape: ModelShape) -> list[str]:
        """The settings of a shape, after `model.`, that this family cannot say."""
        try:
            back = without_effect_of(self.shape(self.config(shape)))
        except InputError:  # a value out of the family's range
            back = None
        own = without_effect_of(shape)
        if back is None:
            lost = [name for name, said in self.fixed.items() if value(own, name) != said]
            return lost or ["head_width"]
        return difference(own, back)

    def origins(self, shape: ModelShape) -> dict[str, Origin]:
        """For every parameter by its global name, where its rows lie in their tensors."""
        outside: dict[str, tuple[Source, str]] = {
            WORDS: (Same(self.words), self.prefix),
            POSITIONS: (Same(self.positions), self.prefix),
            OUTPUT: (Same(self.output), ""),
        }
        for kind in ("weight", "bias"):
            outside[f"{FINAL_NORM}.{kind}"] = Same(self.norm), self.prefix
        found = {}
        for each in shape.outside_layers:
            source, prefix = outside[each.name]
            kind = each.name.rpartition(".")[2]
            found[each.name] = origin(source, kind, each, shape, prefix)
        for number in range(shape.layers):
            prefix = self.prefix + self.layer.format(number)
            for each in shape.layer(number):
                module, _, kind = each.name.rpartition(".")
                name = f"decoder.layers.{number}.{each.name}"
                found[name] = origin(
                    self.sources[_of_any_expert(module, each.expert)],
                    kind,
                    each,
                    shape,
                    prefix,
                    self.transposed,
                )
        return found

    def is_buffer(self, tensor: str) -> bool:
        """Whether a tensor of this name may be there and is not needed."""
        return re.search(self.buffers, tensor) is not None

    def _require_known(self, config: Config) -> None:
        found = config.get("architectures") or [self.architecture]
        known = (self.architecture, self.base)
        if not isinstance(found, list) or any(each not in known for each in found):
            raise fault("architectures", found, f"is not supported; nearest: {known[0]}")
        keys = {key for part in self.parts for key in part.keys} | self.ignored | IGNORED
        keys |= {"architectures", "model_type"}
        unknown = [key for key, value in config.items() if key not in keys and value is not None]
        if unknown:
            values = [f"{key}={config[key]!r}"[:80] for key in unknown]
            raise InputError(
                f"{CONFIG}: {listed(values)}: not known of a {self.model_type} here; nearest: "
                "without it, if it changes nothing of the network"
            )

    def _require_divisible(self, shape: ModelShape) -> None:
        if shape.heads % shape.query_groups:
            nearest = max(n for n in range(1, shape.query_groups) if shape.heads % n == 0)
            raise InputError(
                f"{CONFIG}: {shape.query_groups} heads of keys and values do not divide the "
                f"{shape.heads} of queries; nearest: {nearest}"
            )
        if shape.head_width < 1 or (self.divides and shape.hidden % shape.heads):
            raise InputError(
                f"{CONFIG}: {shape.hidden} channels are no multiple of {shape.heads} heads"
            )
        rotated = int(shape.head_width * shape.rotary.fraction)
        if shape.positions is Positions.rotary and (rotated % 2 or not rotated):
            raise InputError(
                f"{CONFIG}: {rotated} channels of a head are rotated, which is no even number"
            )


def _of_any_expert(module: str, expert: int | None) -> str:
    return module if expert is None else module.replace(f".{expert}.", ".{}.", 1)
