"""Layers that see only a window, in a config.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from configs.errors import InputError
from configs.network import AttentionPattern, Positions, RotaryConfig
from models.huggingface.keys import CONFIG, Config, Fields, Size, fault
from models.huggingface.rope import without_effect
from models.shape import ModelShape

LAYERS = Size("num_hidden_layers", "layers", most=1 << 16)
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


def without_effect_of(shape: ModelShape) -> ModelShape:
    """The same network, with one description where several describe it."""
    rotary = shape.positions is Positions.rotary
    found = pattern(bands(shape), shape.window)
    assert found is not None, "a shape has one of our patterns"
    return replace(
        shape, **found, rotary=without_effect(shape.rotary) if rotary else RotaryConfig()
    )


@dataclass(frozen=True, slots=True)
class OneWindow:
    """Mistral's: all layers have the window, or none.

    Attributes:
        missing: the window where the key is not there.
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
class WindowByLayer:
    """Qwen's: each layer has the window or not."""

    keys = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")

    def read(self, config: Config) -> Fields:
        """Raises InputError for kinds of layers in an order that is none of ours."""
        layers: int = LAYERS.read(config)["layers"]
        used = config.get("use_sliding_window", False)
        if type(used) is not bool:
            raise fault("use_sliding_window", used, "is neither true nor false")
        window = 0
        if used:
            read = Size("sliding_window", "window", missing=4096, null=0).read(config)
            window = read["window"]
        banded = self._banded(config, layers, window)
        found = pattern(banded, window)
        if found is None:
            raise fault(
                "layer_types" if config.get("layer_types") else "max_window_layers",
                config.get("layer_types") or config.get("max_window_layers"),
                "gives layers with a window in an order that is not supported; nearest: all, none, "
                "every second, or all but one in so many",
            )
        return found

    def _banded(self, config: Config, layers: int, window: int) -> list[bool]:
        kinds: Any = config.get("layer_types")
        if kinds is None:
            first = config.get("max_window_layers", 28)
            if window and (type(first) is not int or first < 0):
                raise fault("max_window_layers", first, "is no number of layers")
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
            "use_sliding_window": any(banded),
            "sliding_window": shape.window if any(banded) else None,
            "max_window_layers": banded.index(True) if any(banded) else shape.layers,
            "layer_types": [_SLIDING if band else _FULL for band in banded],
        }
