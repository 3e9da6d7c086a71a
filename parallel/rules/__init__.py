"""Validates a run before anything starts: all rules in one place, all violations reported at once,
each with the nearest valid settings.

A rule is a function from a `Case` to the `Fault`s it finds; a file of this package holds the rules
of one concern, and adding a rule is adding a function to that file's RULES. The engines check much
of this too, but one fault at a time, after minutes of start-up, and without the names of settings.
Needs no torch.

Imports models, parallel, parallel.engines.
Imported by launcher, parallel.planner.
"""

from __future__ import annotations

from collections.abc import Collection

from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from parallel.layout import Layout
from parallel.rules import batch, cuda, cut, engine, launch, network, schedule, settings, world
from parallel.rules.case import Case
from parallel.rules.fault import Rule, Violation
from parallel.rules.nearest import keys, nearest

RULES: tuple[Rule, ...] = (
    *settings.RULES,
    *world.RULES,
    *cut.RULES,
    *network.RULES,
    *engine.RULES,
    *cuda.RULES,
    *schedule.RULES,
    *batch.RULES,
    *launch.RULES,
)


def violations(run: Run, layout: Layout, *, ranks: int | None, device: str) -> list[Violation]:
    """Every rule that `run` breaks when laid out as `layout`.

    `layout` overrides `run.layout`; `ranks` is how many are available (None: as many as requested
    may be started) and `device` is cpu or cuda.
    """
    case = Case.of(run, layout, ranks, device)
    found = [(rule, fault) for rule in RULES for fault in rule(case)]
    known = keys(case, RULES)
    return [
        Violation(
            setting=fault.setting,
            value=case.value(fault.setting),
            why=fault.why,
            nearest=nearest(case, rule, fault, RULES, known),
            source=fault.source,
        )
        for rule, fault in found
    ]


def check_ranges(run: Run, groups: Collection[str]) -> None:
    """Raises InputError for settings of these groups that are out of range.

    For commands that need no layout.
    """
    case = Case(run, ranks=None, device="cpu")
    found = [
        Violation(
            setting=fault.setting,
            value=case.value(fault.setting),
            why=fault.why,
            nearest=tuple(
                override(setting, value) for way in fault.fixes for setting, value in way[0].items()
            ),
            source=fault.source,
        )
        for fault in settings.every_setting_is_in_range(case)
        if fault.setting.split(".")[0] in groups
    ]
    if found:
        raise InputError("; ".join(map(str, found)))


def check_model(run: Run) -> None:
    """Raises InputError, in one line, for a model that no layout makes work.

    For commands that need no layout.
    """
    found = violations(run, Layout(), ranks=None, device="cpu")
    if faults := [str(each) for each in found if each.setting.startswith("model.")]:
        raise InputError("; ".join(faults))


def allowed(run: Run, layout: Layout, *, ranks: int | None, device: str) -> bool:
    """Whether no rule is broken; of many layouts `parallel.planner.verdicts` is quicker."""
    case = Case.of(run, layout, ranks, device)
    return not any(fault for rule in RULES for fault in rule(case))


def check(run: Run, layout: Layout, *, ranks: int | None, device: str) -> None:
    """Raises InputError with one line per violation."""
    found = violations(run, layout, ranks=ranks, device=device)
    if found:
        raise refusal([str(violation) for violation in found])


def refusal(faults: list[str]) -> InputError:
    """All faults in one error, one line each."""
    reasons = "1 reason" if len(faults) == 1 else f"{len(faults)} reasons"
    return InputError("\n  ".join([f"this run cannot work, for {reasons}:", *faults]))
