"""Layers that see only a window, in a config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from configs.errors import InputError
from configs.settings.network import AttentionPattern
from models.huggingface.keys import CONFIG, Config, Fields, Size, alike, fault
from models.shape import ModelShape

LAYERS = Size("num_hidden_layers", "layers", most=1 << 16)
_USED, _FIRST = "use_sliding_window", "max_window_layers"
_FULL, _SLIDING = "full_attention", "sliding_attention"
_DENSE: Fields = {"attention": AttentionPattern.dense, "window": 0, "dense_every": None}


def bands(shape: ModelShape) -> list[bool]:
    """For each layer, whether it sees less than the whole context."""
    return [
        shape.is_banded(layer) and shape.window < shape.context for layer in range(shape.layers)
    ]


def pattern(banded: list[bool], window: int) -> Fields | None:
    """The fields of a shape with these layers; None if none of our patterns has them."""
    if not any(banded):
        return _DENSE
    if all(banded):
        return {**_DENSE, "attention": AttentionPattern.banded, "window": window}
    if all(band == (layer % 2 == 1) for layer, band in enumerate(banded)):
        return {**_DENSE, "attention": AttentionPattern.alternating, "window": window}
    every = banded.index(False) + 1
    if all(band == ((layer + 1) % every != 0) for layer, band in enumerate(banded)):
        periodic = {"attention": AttentionPattern.periodic, "dense_every": every}
        return {**_DENSE, **periodic, "window": window}
    return None


@dataclass(frozen=True, slots=True)
class OneWindow:
    """Mistral's: all layers have the window, or none.

    Attributes:
        missing: the window where the key is not there; 0: none.
    """

    missing: int
    keys = ("sliding_window",)

    def read(self, config: Config) -> Fields:
        """Raises InputError if it is no size."""
        found = Size("sliding_window", "window", missing=self.missing, null=0).read(config)
        return pattern([found["window"] > 0], found["window"]) or {}

    def write(self, shape: ModelShape) -> Fields:
        """null, or the window."""
        return {"sliding_window": shape.window if all(bands(shape)) else None}


@dataclass(frozen=True, slots=True)
class WindowIfUsed:
    """Qwen's with experts: all layers have the window, or none."""

    keys = (_USED, "sliding_window", _FIRST)

    def read(self, config: Config) -> Fields:
        """Raises InputError if only some layers have it: versions of transformers differ in which
        ones they take.
        """
        if not _is_used(config):
            return dict(_DENSE)
        first = config.get(_FIRST, 0)
        if not alike(first, 0):
            raise fault(_FIRST, first, f"with {_USED}=True is not supported; nearest: 0")
        return OneWindow(missing=4096).read(config)

    def write(self, shape: ModelShape) -> Fields:
        """All keys."""
        used = all(bands(shape))
        first = 0 if used else shape.layers
        return {**OneWindow(missing=0).write(shape), _USED: used, _FIRST: first}


@dataclass(frozen=True, slots=True)
class WindowByLayer:
    """Qwen's: each layer has the window or not."""

    keys = (_USED, "sliding_window", _FIRST, "layer_types")

    def read(self, config: Config) -> Fields:
        """Raises InputError for kinds of layers in an order that is none of ours."""
        layers: int = LAYERS.read(config)["layers"]
        window = 0
        if _is_used(config):
            read = Size("sliding_window", "window", missing=4096, null=0).read(config)
            window = read["window"]
        banded = self._banded(config, layers, window)
        found = pattern(banded, window)
        if found is None:
            raise fault(
                "layer_types" if config.get("layer_types") else _FIRST,
                config.get("layer_types") or config.get(_FIRST),
                "gives layers with a window in an order that is not supported; nearest: all, none, "
                "every second, or all but one in so many",
            )
        return found

    def _banded(self, config: Config, layers: int, window: int) -> list[bool]:
        kinds: Any = config.get("layer_types")
        if kinds is None:
            first = config.get(_FIRST, 28)
            if window and (type(first) is not int or first < 0):
                raise fault(_FIRST, first, "is no number of layers")
            return [window > 0 and layer >= first for layer in range(layers)]
        if not isinstance(kinds, list) or any(kind not in (_FULL, _SLIDING) for kind in kinds):
            raise fault("layer_types", kinds, f"is not supported; nearest: {_FULL} or {_SLIDING}")
        if len(kinds) != layers:
            raise InputError(
                f"{CONFIG}: layer_types has {len(kinds)} layers, num_hidden_layers={layers}"
            )
        if _SLIDING in kinds and not window:
            raise fault(
                "sliding_window", config.get("sliding_window"), f"contradicts the {_SLIDING} layers"
            )
        return [kind == _SLIDING for kind in kinds]

    def write(self, shape: ModelShape) -> Fields:
        """All keys."""
        banded = bands(shape)
        return {
            _USED: any(banded),
            "sliding_window": shape.window if any(banded) else None,
            _FIRST: banded.index(True) if any(banded) else shape.layers,
            "layer_types": [_SLIDING if band else _FULL for band in banded],
        }


def _is_used(config: Config) -> bool:
    used = config.get(_USED, False)
    if type(used) is not bool:
        raise fault(_USED, used, "is neither true nor false")
    return used
