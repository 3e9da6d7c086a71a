"""When two shapes are one network, and what two that are not differ in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from operator import attrgetter
from typing import Any

from configs.settings.network import Positions, RotaryConfig
from models.huggingface import experts, rope
from models.huggingface.windows import bands, pattern
from models.shape import ModelShape

_EXPERTS = "moe.experts"


def without_effect_of(shape: ModelShape) -> ModelShape:
    """The same network, with one description where several describe it."""
    rotary = shape.positions is Positions.rotary
    found = pattern(bands(shape), shape.window)
    assert found is not None, "a shape has one of our patterns"
    return replace(
        shape,
        **found,
        **experts.without_effect(shape),
        rotary=rope.without_effect(shape.rotary) if rotary else RotaryConfig(),
    )


def difference(one: ModelShape, other: ModelShape) -> list[str]:
    """The settings, after `model.`, in which they differ; of experts only that, if one has none."""
    names = [name for name in settings(one) if value(one, name) != value(other, name)]
    if _EXPERTS in names and 0 in (one.moe.experts, other.moe.experts):
        return [name for name in names if name == _EXPERTS or not name.startswith("moe.")]
    return names


def settings(shape: ModelShape) -> Iterator[str]:
    """All settings of a shape, after `model.`: moe.experts beside layers."""
    for each in fields(shape):
        inner = getattr(shape, each.name)
        if is_dataclass(inner):
            yield from (f"{each.name}.{deeper.name}" for deeper in fields(inner))
        else:
            yield each.name


def value(shape: ModelShape, setting: str) -> Any:
    """What a shape has for one of `settings`."""
    return attrgetter(setting)(shape)
