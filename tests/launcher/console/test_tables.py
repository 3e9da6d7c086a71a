"""Tables on terminals of any width and in files: every word and every number whole."""

from __future__ import annotations

import io

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from launcher.console.plan_tables import headline_table
from launcher.console.tables import print_lines, print_table

PATH = "/a/path/that/is/long/enough/bin/python"
NUMBERS = [f"{1_300_000 + at:,}" for at in range(9)]


def table() -> Table:
    shown = Table(title="what is told, and in many words", box=box.SIMPLE_HEAD)
    shown.add_column("what")
    for at in range(len(NUMBERS)):
        shown.add_column(f"number of {at}", justify="right")
    shown.add_column("so")
    shown.add_row("first", *NUMBERS, f"as tested, and found at {PATH}")
    return shown


def printed(shown: Table, width: int, *, terminal: bool) -> str:
    buffer = io.StringIO()
    console = Console(
        file=buffer, width=width, force_terminal=terminal, color_system=None, soft_wrap=True
    )
    print_table(console, shown)
    assert console.width == width
    return buffer.getvalue()


@pytest.mark.parametrize("width", [300, 80, 60])
def test_a_terminal_shows_every_word_on_a_line_of_its_own_width(width: int) -> None:
    output = printed(table(), width, terminal=True)
    assert "…" not in output
    assert {*NUMBERS, PATH, "first", "tested,"} <= set(output.split())
    assert all(len(line) <= width for line in output.splitlines())


def test_columns_that_find_no_room_follow_behind_the_first() -> None:
    lines = printed(table(), 60, terminal=True).splitlines()
    blocks = [line for line in lines if line.split()[:1] == ["first"]]
    assert len(blocks) > 1


def test_a_word_that_is_wider_than_the_terminal_stays_whole() -> None:
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("path")
    shown.add_row(PATH * 2)
    assert PATH * 2 in printed(shown, 60, terminal=True)


@pytest.mark.parametrize("width", [80, 20])
def test_a_file_has_no_width(width: int) -> None:
    output = printed(table(), width, terminal=False)
    (row,) = (line for line in output.splitlines() if line.split()[:1] == ["first"])
    assert " ".join(row.split()) == " ".join(["first", *NUMBERS, f"as tested, and found at {PATH}"])
    assert "what is told, and in many words\n" in output


def test_what_gpt3_costs_fits_a_narrow_terminal() -> None:
    output = printed(headline_table(), 60, terminal=True)
    assert all(len(line) <= 60 for line in output.splitlines())
    assert "3.14E23" in output


def test_a_labelled_line_goes_on_under_its_text() -> None:
    for terminal, expected in (
        (True, "step     one and two and\n         three\n"),
        (False, "step     one and two and three\n"),
    ):
        buffer = io.StringIO()
        console = Console(file=buffer, width=24, force_terminal=terminal, color_system=None)
        print_lines(console, "step     one and two and three")
        assert buffer.getvalue() == expected
