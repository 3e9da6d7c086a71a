"""Keys of a config.json and the fields of a shape that they stand for.

A part of a family reads its keys and writes them. What it cannot say it leaves out: what was
written is read back and compared, so that nothing of a shape is lost (`family.Family.lost`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from configs.errors import InputError
from configs.settings.network import Biases
from configs.words import listed
from models.shape import ModelShape

CONFIG = "config.json"
Config = Mapping[str, Any]
Fields = dict[str, Any]
_ABSENT = object()


class Part(Protocol):
    """Some keys of a config.json."""

    @property
    def keys(self) -> tuple[str, ...]:
        """All that it reads."""
        ...

    def read(self, config: Config) -> Fields:
        """Fields of a shape. Raises InputError for a value that is not supported."""
        ...

    def write(self, shape: ModelShape) -> Fields:
        """The keys of a shape."""
        ...


def fault(key: str, value: object, wrong: str) -> InputError:
    """The error of a key, in one line."""
    said = repr(value)
    return InputError(f"{CONFIG}: {key}={said if len(said) <= 80 else said[:77] + '...'} {wrong}")


def alike(value: object, other: object) -> bool:
    """Whether JSON says the same: 1 and 1.0 are alike, 1 and true are not."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


@dataclass(frozen=True, slots=True)
class Size:
    """A key with a whole number of at least 1.

    Attributes:
        missing: where the key is not there; None: it has to be.
        null: where it is null; 0: what follows from other sizes. None: it must not be.
        most: a larger one is a mistake, and would cost memory before it is found out.
    """

    key: str
    field: str
    missing: int | None = None
    null: int | None = None
    most: int = 1 << 40

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,)

    def read(self, config: Config) -> Fields:
        """Raises InputError if it is missing or no size."""
        value = config.get(self.key, _ABSENT)
        if value is _ABSENT:
            if self.missing is None:
                raise InputError(f"{CONFIG}: {self.key} is missing")
            return {self.field: self.missing}
        if value is None and self.null is not None:
            return {self.field: self.null}
        if type(value) is not int or not 1 <= value <= self.most:
            raise fault(self.key, value, "is no size")
        return {self.field: value}

    def write(self, shape: ModelShape) -> Fields:
        """The number."""
        return {self.key: getattr(shape, self.field)}


@dataclass(frozen=True, slots=True)
class Number:
    """A key with a positive number. `missing`: where it is not there."""

    key: str
    field: str
    missing: float

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,)

    def read(self, config: Config) -> Fields:
        """Raises InputError if it is no such number."""
        return {self.field: positive(self.key, config.get(self.key, self.missing))}

    def write(self, shape: ModelShape) -> Fields:
        """The number."""
        return {self.key: getattr(shape, self.field)}


def positive(key: str, value: object) -> float:
    """Raises InputError unless it is a positive number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
        raise fault(key, value, "is no positive number")
    return float(value)


@dataclass(frozen=True, slots=True)
class Choice:
    """A key with one of several values: theirs to ours. `missing`: theirs where it is not there."""

    key: str
    field: str
    values: tuple[tuple[Any, Any], ...]
    missing: Any

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,)

    def read(self, config: Config) -> Fields:
        """Raises InputError for another value."""
        value = config.get(self.key, self.missing)
        for theirs, ours in self.values:
            if alike(theirs, value):
                return {self.field: ours}
        known = [repr(theirs) for theirs, _ in self.values]
        raise fault(self.key, value, f"is not supported; nearest: {listed(known, apart=' or ')}")

    def write(self, shape: ModelShape) -> Fields:
        """The first of theirs that is ours."""
        own = getattr(shape, self.field)
        return dict([(self.key, theirs) for theirs, ours in self.values if ours == own][:1])


@dataclass(frozen=True, slots=True)
class Constant:
    """A key that must have one of these values, if it is there; the first one is written."""

    key: str
    allowed: tuple[Any, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Its key."""
        return (self.key,)

    def read(self, config: Config) -> Fields:
        """Raises InputError for another value."""
        value = config.get(self.key, self.allowed[0])
        if not any(alike(value, each) for each in self.allowed):
            known = listed([repr(each) for each in self.allowed], apart=" or ")
            raise fault(self.key, value, f"is not supported; nearest: {known}")
        return {}

    def write(self, shape: ModelShape) -> Fields:
        """The value."""
        return {self.key: self.allowed[0]}


@dataclass(frozen=True, slots=True)
class Context:
    """The length of learned positions, which old files of GPT-2's call by two names."""

    keys = ("n_positions", "n_ctx")

    def read(self, config: Config) -> Fields:
        """Raises InputError if both are there and differ."""
        known = {key: config[key] for key in self.keys if config.get(key) is not None}
        if len(set(map(str, known.values()))) > 1:
            raise fault("n_ctx", known["n_ctx"], f"contradicts n_positions={known['n_positions']}")
        return Size(next(iter(known), "n_positions"), "context").read(config)

    def write(self, shape: ModelShape) -> Fields:
        """The newer name."""
        return {"n_positions": shape.context}


@dataclass(frozen=True, slots=True)
class LlamaBiases:
    """Biases of attention's linears and of the MLP's: all or none."""

    keys = ("attention_bias", "mlp_bias")

    def read(self, config: Config) -> Fields:
        """Raises InputError if only one of the two has them."""
        attention, mlp = (config.get(key, False) for key in self.keys)
        if type(attention) is not bool or attention is not mlp:
            raise fault(
                "attention_bias",
                attention,
                f"with mlp_bias={mlp!r} is not supported; nearest: both true or both false",
            )
        return {"biases": Biases.all if attention else Biases.none}

    def write(self, shape: ModelShape) -> Fields:
        """Both keys."""
        return dict.fromkeys(self.keys, shape.biases is Biases.all)
