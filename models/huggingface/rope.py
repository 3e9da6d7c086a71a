"""Rotary positions in a config.json, in both spellings.

Until transformers 4 `rope_theta` and `rope_scaling` stand beside each other, since 5 all is in
`rope_parameters`. The older one is written, since every version reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from configs.settings.network import RopeScaling, RotaryConfig
from configs.words import listed
from models.huggingface.keys import Config, Fields, Size, alike, fault, positive
from models.shape import ModelShape

_THETA, _FRACTION, _KIND = "rope_theta", "partial_rotary_factor", "rope_type"
_NESTED = ("rope_parameters", "rope_scaling")
_KINDS = {
    "default": RopeScaling.none,
    "linear": RopeScaling.linear,
    "llama3": RopeScaling.llama3,
    "yarn": RopeScaling.yarn,
}
_FACTOR = {"factor": "factor"}
_ORIGINAL = "original_max_position_embeddings"
_KEYS: dict[RopeScaling, dict[str, str]] = {
    RopeScaling.none: {},
    RopeScaling.linear: _FACTOR,
    RopeScaling.llama3: {
        **_FACTOR,
        _ORIGINAL: "original_context",
        "low_freq_factor": "low_frequency_factor",
        "high_freq_factor": "high_frequency_factor",
    },
    RopeScaling.yarn: {
        **_FACTOR,
        _ORIGINAL: "original_context",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
    },
}
"""What a scaling has beside its kind: their key, and our field."""

_NEEDED = {"factor", "low_freq_factor", "high_freq_factor"}


@dataclass(frozen=True, slots=True)
class Rotary:
    """How positions are rotated.

    Attributes:
        theta, fraction: the family's own names of two values.
        partial: what part of a head is rotated where nothing says so; None: always all of it.
        base: where nothing says it.
    """

    theta: str = _THETA
    fraction: str = _FRACTION
    partial: float | None = None
    base: float = RotaryConfig().base

    @property
    def keys(self) -> tuple[str, ...]:
        """All of both spellings."""
        return tuple(dict.fromkeys((*_NESTED, self.theta, self.fraction, _THETA, _FRACTION)))

    def read(self, config: Config) -> Fields:
        """Raises InputError for a scaling that is not known, or values that contradict."""
        said = self._said(config)
        kind = said.pop(_KIND, "default")
        scaling = _KINDS.get(kind) if isinstance(kind, str) else None
        if scaling is None:
            nearest = listed(list(_KINDS), apart=" or ")
            raise fault(_KIND, kind, f"is not supported; nearest: {nearest}")
        base = positive(self.theta, said.pop(_THETA, self.base))
        fraction = positive(self.fraction, said.pop(_FRACTION, self.partial or 1.0))
        if fraction > 1 or (self.partial is None and fraction != 1):
            raise fault(self.fraction, fraction, "is not supported; nearest: 1.0")
        known = _KEYS[scaling]
        if scaling is RopeScaling.yarn and said.get("truncate") is True:
            del said["truncate"]  # the ramp is between whole channels, as it is anyway
        if unknown := [key for key in said if key not in known]:
            raise fault(unknown[0], said[unknown[0]], f"of {_KIND}={kind} is not supported")
        if missing := [key for key in known if key in _NEEDED and key not in said]:
            raise fault(_KIND, kind, f"has no {missing[0]}")
        values: Fields = {known[key]: positive(key, value) for key, value in said.items()}
        if _ORIGINAL in known:
            said.setdefault(_ORIGINAL, config.get("max_position_embeddings"))
            values |= Size(_ORIGINAL, known[_ORIGINAL]).read(said)
        return {"rotary": RotaryConfig(base=base, fraction=fraction, scaling=scaling, **values)}

    def write(self, shape: ModelShape) -> Fields:
        """The older spelling."""
        rotary = shape.rotary
        written = {self.theta: rotary.base}
        if self.partial is not None:
            written[self.fraction] = rotary.fraction
        kind = next(theirs for theirs, ours in _KINDS.items() if ours is rotary.scaling)
        values = {
            theirs: getattr(rotary, ours)
            for theirs, ours in _KEYS[rotary.scaling].items()
            if getattr(rotary, ours) is not None
        }
        scaled = rotary.scaling is not RopeScaling.none
        return {**written, "rope_scaling": {_KIND: kind, **values} if scaled else None}

    def _said(self, config: Config) -> dict[str, Any]:
        """Everything that is not null, by the names of `rope_parameters`."""
        said: dict[str, Any] = {}
        for key, value in self._pairs(config):
            if value is not None and not alike(said.setdefault(key, value), value):
                raise fault(key, value, f"contradicts {said[key]!r}, which is there too")
        return said

    def _pairs(self, config: Config) -> Iterator[tuple[str, Any]]:
        for nested in _NESTED:
            inner: Any = config.get(nested) or {}
            if not isinstance(inner, dict):
                raise fault(nested, inner, "is no object")
            for key, value in inner.items():
                yield (_KIND if key == "type" else key), value
        yield from ((_THETA, config.get(self.theta)), (_FRACTION, config.get(self.fraction)))
        yield from ((_THETA, config.get(_THETA)), (_FRACTION, config.get(_FRACTION)))


def without_effect(rotary: RotaryConfig) -> RotaryConfig:
    """The same with defaults for whatever its scaling does not use."""
    used: Fields = {
        ours: getattr(rotary, ours)
        for ours in ("base", "fraction", "scaling", *_KEYS[rotary.scaling].values())
    }
    return RotaryConfig(**used)
