"""Renders how many nodes reach a goal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from configs.words import counted
from launcher.console.plan_summary import span
from launcher.console.plan_tables import new_table
from launcher.console.search_tables import layout_name
from parallel.planner.goals import Option, Reached
from parallel.planner.report.as_json import layout_fields


def goals_table(reached: Reached) -> Table:
    """Days against dollars, one row for each number of nodes on which a layout fits."""
    table = new_table("days and dollars by nodes, failures included (* the front of both)")
    for name in ("nodes", "layout", "engine", "days", "dollars"):
        right = name in ("nodes", "days", "dollars")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    front = reached.front
    for each in reached.options:
        table.add_row(
            f"{each.nodes:,}{'*' if each in front else ''}",
            layout_name(each.plan.layout),
            str(each.plan.run.engine.name),
            f"{each.days:,.1f}",
            "" if each.dollars is None else f"{each.dollars:,.0f}",
        )
    return table


def goals_lines(reached: Reached) -> str:
    """Which is chosen, and what was tried in vain."""
    chosen = reached.chosen
    assert chosen is not None
    lines = []
    for name, best in (
        ("fewest", reached.fewest if reached.goal else None),
        ("cheapest", reached.cheapest),
        ("fastest", reached.fastest),
    ):
        if best is not None:
            price = "" if best.dollars is None else f", ${best.dollars:,.0f}"
            lines.append(
                f"{name:<9}{counted(best.nodes, 'node', 'nodes')}: {span(best.days)}{price}"
            )
    there = {each.nodes for each in reached.options}
    without = [f"{nodes:,}" for nodes in reached.tried if nodes not in there]
    if without:
        lines.append(f"none     on {' '.join(without)} nodes: no layout is valid and fits")
    lines.append(f"chosen   {counted(chosen.nodes, 'node', 'nodes')}, whose plan follows")
    return "\n".join(lines)


def goals_answer(reached: Reached) -> dict[str, Any]:
    """The same for `format=json`."""

    def nodes(option: Option | None) -> int | None:
        return None if option is None else option.nodes

    return {
        "days": reached.days,
        "dollars": reached.dollars,
        "tried_nodes": reached.tried,
        "fewest_nodes": nodes(reached.fewest),
        "cheapest_nodes": nodes(reached.cheapest),
        "fastest_nodes": nodes(reached.fastest),
        "chosen_nodes": nodes(reached.chosen),
        "options": [
            {
                "nodes": each.nodes,
                "expected_days": each.days,
                "expected_dollars": each.dollars,
                "reaches": reached.reaches(each),
                "on_front": each in reached.front,
                "engine": str(each.plan.run.engine.name),
                "layout": layout_fields(each.plan.layout),
            }
            for each in reached.options
        ],
    }
