"""Finds the nearest settings that fix a broken rule, by trying them against all the rules.

So a suggestion is never a guess: the code that reported the fault has checked it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from configs.override import override
from parallel.rules.case import Case
from parallel.rules.fault import Change, Fault, Fix, Rule

Key = tuple[Rule, str]

WAY_LENGTH = 1024
"""How many changes of one kind are tried; anything further is not near."""


def keys(case: Case, rules: Iterable[Rule]) -> set[Key]:
    """The faults of a case: the broken rules, each with the setting it blames."""
    return {(rule, fault.setting) for rule in rules for fault in rule(case)}


def nearest(
    case: Case, rule: Rule, fault: Fault, rules: tuple[Rule, ...], known: set[Key]
) -> tuple[str, ...]:
    """For each kind of fix the first change that repairs `fault` without breaking another rule.

    If there is none, the changes that repair it but break others, which are then reported too.
    """
    rest = known - {(rule, fault.setting)}

    def mends(change: Change, by: Iterable[Rule]) -> bool:
        return keys(case.changed(change), by) <= rest

    def first_of_each(*by: Rule) -> list[Change]:
        fixes = (
            next((c for c in way if mends(c, [rule]) and mends(c, by)), None) for way in fault.fixes
        )
        return [change for change in fixes if change is not None]

    found = first_of_each(*rules) or first_of_each(rule)
    return tuple(dict.fromkeys(map(_typed, found)))


def to(*changes: Change) -> Fix:
    """A fix with only these changes, nearest first."""
    return changes


def around(setting: str, value: int, highest: int) -> tuple[Fix, Fix]:
    """All smaller sizes and all larger ones up to `highest`."""
    return below(setting, value, highest), above(setting, value, highest)


def below(setting: str, value: int, highest: int) -> Fix:
    """All smaller sizes down to 1, from `highest` if that is less; nearest first."""
    return _way(setting, range(min(value - 1, highest), 0, -1))


def above(setting: str, value: int, highest: int) -> Fix:
    """All larger sizes up to `highest`, the nearest first."""
    return _way(setting, range(max(value + 1, 1), highest + 1))


def more_nodes(case: Case) -> Fix:
    """Larger values of cluster.nodes, if those mean more available ranks; else no change."""
    nodes = case.run.cluster.nodes
    return above("cluster.nodes", nodes, nodes + WAY_LENGTH) if case.nodes_can_change else ()


def multiples_around(setting: str, value: int, unit: int) -> tuple[Fix, Fix]:
    """The multiples of `unit` below `value`, and some above it."""
    low = value // unit * unit
    high = max(low, 0) + unit
    return (
        _way(setting, range(low, 0, -unit)),
        _way(setting, range(high, high + 16 * unit, unit)),
    )


def _way(setting: str, values: Iterable[object]) -> Fix:
    return [{setting: value} for value in islice(values, WAY_LENGTH)]


def _typed(change: Change) -> str:
    return " ".join(override(setting, value) for setting, value in change.items())
