"""What the network's settings must agree on, whatever the layout."""

from __future__ import annotations

import math
from collections.abc import Iterator

from configs.network import AttentionPattern, Positions, RopeScaling
from parallel.rules.case import Case
from parallel.rules.cut import splits
from parallel.rules.fault import Fault, Rule
from parallel.rules.nearest import around, multiples_around, to

EFFECT = "a setting without effect is an error"


def query_groups_divide_heads(case: Case) -> Iterator[Fault]:
    """Each query group serves equally many heads."""
    groups, heads = case.run.model.query_groups, case.run.model.heads
    if groups is not None and (groups > heads >= 1 or not splits(heads, groups)):
        yield Fault(
            setting="model.query_groups",
            why=f"{heads} heads do not split into {groups} groups",
            source="Ainslie et al. 2023; Megatron-core attention.py",
            fixes=(
                *around("model.query_groups", groups, heads),
                *multiples_around("model.heads", heads, groups),
            ),
        )


def rotary_channels_come_in_pairs(case: Case) -> Iterator[Fault]:
    """At least one pair of a head's channels is rotated, and no channel without another."""
    model, width = case.run.model, case.shape.head_width
    fraction = model.rotary.fraction
    if model.positions is not Positions.rotary or width < 1 or not 0 < fraction <= 1:
        return
    rotated = width * fraction
    if rotated >= 2 and math.isclose(rotated % 2, 0, abs_tol=1e-9):
        return
    nearest = max(2, 2 * round(rotated / 2))
    yield Fault(
        setting="model.rotary.fraction",
        why=f"{rotated:g} of a head's {width} channels are no pairs",
        source="Su et al. 2021",
        fixes=(to({"model.rotary.fraction": nearest / width}),) if nearest <= width else (),
    )


def rope_scaling_is_complete(case: Case) -> Iterator[Fault]:
    """A scaling has its factor and, where it needs one, the context first trained on."""
    model, rotary = case.run.model, case.run.model.rotary
    if rotary.scaling is RopeScaling.none:
        if rotary.factor != 1:
            yield Fault(
                setting="model.rotary.factor",
                why="model.rotary.scaling=none stretches nothing",
                source=EFFECT,
                fixes=(
                    to({"model.rotary.factor": 1.0}),
                    to({"model.rotary.scaling": RopeScaling.linear}),
                ),
            )
        return
    if model.positions is not Positions.rotary:
        yield Fault(
            setting="model.rotary.scaling",
            why=f"model.positions={model.positions} are not rotated",
            source=EFFECT,
            fixes=(
                to({"model.rotary.scaling": RopeScaling.none, "model.rotary.factor": 1.0}),
                to({"model.positions": Positions.rotary}),
            ),
        )
    elif rotary.scaling is not RopeScaling.linear and rotary.original_context is None:
        context = max(1, int(model.context / max(rotary.factor, 1)))
        yield Fault(
            setting="model.rotary.original_context",
            why=f"model.rotary.scaling={rotary.scaling} compares wavelengths with the context "
            "first trained on",
            source="Llama 3.1; Peng et al. 2023",
            fixes=(to({"model.rotary.original_context": context}),),
        )


def frequencies_are_in_order(case: Case) -> Iterator[Fault]:
    """The two bounds between which a scaling blends are in order."""
    rotary = case.run.model.rotary
    pairs = {
        RopeScaling.llama3: ("low_frequency_factor", "high_frequency_factor"),
        RopeScaling.yarn: ("beta_slow", "beta_fast"),
    }
    if rotary.scaling not in pairs:
        return
    lower, upper = pairs[rotary.scaling]
    low, high = getattr(rotary, lower), getattr(rotary, upper)
    if low >= high:
        yield Fault(
            setting=f"model.rotary.{upper}",
            why=f"it is not above model.rotary.{lower}={low:g}",
            source="Llama 3.1; Peng et al. 2023",
            fixes=(to({f"model.rotary.{upper}": 4 * low}),),
        )


def dense_layers_have_a_period(case: Case) -> Iterator[Fault]:
    """A periodic pattern says which layers are dense; no other pattern does."""
    model = case.run.model
    periodic = model.attention is AttentionPattern.periodic
    if periodic == (model.dense_every is not None):
        return
    yield Fault(
        setting="model.dense_every",
        why="model.attention=periodic has one dense layer in every so many"
        if periodic
        else f"model.attention={model.attention} has no period",
        source=EFFECT,
        fixes=(
            to({"model.dense_every": 6 if periodic else None}),
            to(
                {"model.attention": AttentionPattern.dense}
                if periodic
                else {"model.attention": AttentionPattern.periodic}
            ),
        ),
    )


RULES: tuple[Rule, ...] = (
    query_groups_divide_heads,
    rotary_channels_come_in_pairs,
    rope_scaling_is_complete,
    frequencies_are_in_order,
    dense_layers_have_a_period,
)
