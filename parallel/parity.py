"""Whether two runs are the same run: losses, gradient norms, and the first tensor that differs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from configs.schema import Precision

Tensors = Mapping[str, Tensor]  # "KIND.NAME" -> the full parameter, moment or master weight

KINDS = {"exp_avg": "gradient (Adam's first moment)", "master": "weight"}
"""The tensors compared per parameter, in order: a wrong gradient precedes a wrong weight. After
the first step Adam's first moment is the clipped gradient times 1 - beta1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """Largest relative differences; of tensors |a - b| / |b| in the Euclidean norm."""

    first_step: float  # loss and gradient norm of the first step, before errors grow
    steps: float  # loss and gradient norm of all others
    tensors: float

    @classmethod
    def of(cls, precision: Precision) -> Tolerance:
        """Tolerance for reordered sums, in the number format of the matmuls."""
        return {
            Precision.float32: cls(first_step=1e-6, steps=1e-4, tensors=1e-3),
            Precision.fp16: cls(first_step=1e-3, steps=5e-2, tensors=1e-1),
            Precision.bf16: cls(first_step=1e-3, steps=5e-2, tensors=2e-1),
            # Three bits of a mantissa instead of seven: from arithmetic, not measured.
            Precision.fp8: cls(first_step=2e-2, steps=2e-1, tensors=5e-1),
        }[precision]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Results of a run. Losses and norms by step from the first; tensors after some steps."""

    losses: list[float]
    grad_norms: list[float]
    tensors: Mapping[int, Tensors] = field(default_factory=dict)  # number of the step, from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDifference:
    """Losses and gradient norms of one step in both runs."""

    step: int  # from 0
    losses: tuple[float, float]
    grad_norms: tuple[float, float]
    agrees: bool

    @property
    def loss(self) -> float:
        """Relative difference of the losses."""
        return relative(*self.losses)

    @property
    def grad_norm(self) -> float:
        """Relative difference of the gradient norms."""
        return relative(*self.grad_norms)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """The difference between a parameter or moment of two runs after a step."""

    step: int  # from 0
    name: str
    kind: str  # one of KINDS
    difference: float
    why: str = ""  # if not a numerical difference: missing on one side, or of another shape

    def __str__(self) -> str:
        size = self.why or f"relative difference {self.difference:.1e}"
        return f"{KINDS[self.kind]} of {self.name} after step {self.step + 1}: {size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Where two runs differ, step by step and tensor by tensor."""

    steps: list[StepDifference]
    first: TensorDifference | None  # beyond the tolerance, in the order of the network
    largest: TensorDifference | None  # of all tensors compared

    @property
    def agrees(self) -> bool:
        """Whether every step and every tensor is within the tolerance."""
        return self.first is None and all(step.agrees for step in self.steps)


def compare(run: Trace, against: Trace, tolerance: Tolerance) -> Comparison:
    """Compares step by step, and tensors after every step for which both have them."""
    assert len(run.losses) == len(against.losses), "the runs have not the same number of steps"
    steps = [
        _step(number, run, against, tolerance.steps if number else tolerance.first_step)
        for number in range(len(run.losses))
    ]
    first = largest = None
    for number in sorted(set(run.tensors) & set(against.tensors)):
        for found in _tensors(number, run.tensors[number], against.tensors[number]):
            if largest is None or found.difference > largest.difference:
                largest = found
            # A NaN exceeds every tolerance.
            if first is None and not found.difference <= tolerance.tensors:
                first = found
        if first is not None:
            break
    return Comparison(steps=steps, first=first, largest=largest)


def relative(value: float, reference: float) -> float:
    """|value - reference| / |reference|; infinite if only the reference is 0."""
    if value == reference:
        return 0.0
    return abs(value - reference) / abs(reference) if reference else float("inf")


def _step(number: int, run: Trace, against: Trace, allowed: float) -> StepDifference:
    losses = run.losses[number], against.losses[number]
    norms = run.grad_norms[number], against.grad_norms[number]
    agrees = relative(*losses) <= allowed and relative(*norms) <= allowed
    return StepDifference(step=number, losses=losses, grad_norms=norms, agrees=agrees)


def _tensors(step: int, run: Tensors, against: Tensors) -> Iterator[TensorDifference]:
    keys = {key for key in (*run, *against) if key.partition(".")[0] in KINDS}
    for key in sorted(keys, key=_in_network_order):
        kind, _, name = key.partition(".")
        why, difference = _difference(run.get(key), against.get(key))
        yield TensorDifference(step=step, name=name, kind=kind, difference=difference, why=why)


def _difference(one: Tensor | None, other: Tensor | None) -> tuple[str, float]:
    if one is None or other is None:
        return "only one of the runs has it", float("inf")
    if one.shape != other.shape:
        return f"of shape {tuple(one.shape)} and {tuple(other.shape)}", float("inf")
    gap = float((one.double() - other.double()).norm())
    size = float(other.double().norm())
    return "", gap / size if size else (0.0 if gap == 0 else float("inf"))


_ORDER = (
    *("word_embeddings", "position_embeddings"),
    *("input_layernorm", "linear_qkv", "q_layernorm", "k_layernorm", "linear_proj"),
    *("pre_mlp_layernorm", "router", "linear_fc1", "linear_fc2"),
    *("final_layernorm", "output_layer"),
)


def _in_network_order(key: str) -> tuple[object, ...]:
    kind, _, name = key.partition(".")
    layer = re.match(r"decoder\.layers\.(\d+)\.", name)
    ends = -1.0 if name.startswith("embedding.") else float("inf")  # what is in no layer
    place = float(layer[1]) if layer else ends
    part = next(number for number, part in enumerate(_ORDER) if part in name)
    return list(KINDS).index(kind), place, part, name
