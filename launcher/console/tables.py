"""Tables and lines on a terminal of any width, and in files; words and numbers are never cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

_ANY_WIDTH = 100_000
_INDENT = 9  # of labelled lines: "memory   12.3 of 80.0 GiB"


def print_table(console: Console, table: Table, *, keys: int = 1) -> None:
    """Prints a table fitted to the terminal's width; in a file or a pipe at its natural width.

    A table that is too wide first wraps its words, then narrows the space between columns, and
    finally moves columns into further tables below, each repeating the first `keys` columns.
    """
    wide = console.width if console.is_terminal else _ANY_WIDTH
    if table.title:
        console.print(table.title, style="table.title", soft_wrap=not console.is_terminal)
    before = console.width
    try:
        for part in _fitted(console, table, keys, wide):
            # Lines that are still too wide are wrapped by the terminal.
            console.width = max(wide, _measured(console, part).maximum)
            console.print(part, soft_wrap=False, crop=False)
    finally:
        console.width = before


def print_lines(console: Console, text: str) -> None:
    """Prints labelled lines, wrapped with a hanging indent; unchanged in a file."""
    for line in text.splitlines():
        if console.is_terminal and len(line) > console.width:
            line = textwrap.fill(
                line,
                console.width,
                subsequent_indent=" " * _INDENT,
                break_long_words=False,
                break_on_hyphens=False,
            )
        console.print(line, soft_wrap=True, highlight=False)


def many(count: int, one: str, more: str | None = None) -> str:
    """A count with its noun: 1 rank, 2 ranks."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def _fitted(console: Console, table: Table, keys: int, wide: int) -> list[Table]:
    """The table in as many parts as needed, each no wider than necessary."""
    every = range(len(table.columns))
    for tight in (False, True):
        whole = _part(table, every, tight=tight)
        if _squeeze(console, whole, wide):
            return [whole]
    parts, columns = [], list(every[:keys])
    for at in every[keys:]:
        wider = _part(table, [*columns, at], tight=True)
        if len(columns) > keys and not _squeeze(console, wider, wide):
            parts.append(columns)
            columns = list(every[:keys])
        columns.append(at)
    tables = [_part(table, columns, tight=True) for columns in [*parts, columns]]
    for part in tables:
        _squeeze(console, part, wide)
    return tables


def _part(table: Table, columns: Iterable[int], *, tight: bool) -> Table:
    """Some columns of a table; `tight`: one space between them."""
    part = Table(
        box=table.box,
        padding=0 if tight else table.padding,
        collapse_padding=table.collapse_padding,
        pad_edge=table.pad_edge,
        show_header=table.show_header,
    )
    chosen = [table.columns[at] for at in columns]
    for column in chosen:
        part.add_column(column.header, justify=column.justify, no_wrap=column.no_wrap)
    for row in zip(*(column.cells for column in chosen), strict=True):
        part.add_row(*row)
    return part


def _squeeze(console: Console, table: Table, wide: int) -> bool:
    """Narrows the widest columns, without breaking words, until the table fits; whether it does.

    In a column of numbers (right-aligned) only the heading wraps.
    """
    widths = [_natural(console, column) for column in table.columns]
    least = [_least(console, column) for column in table.columns]
    excess = _measured(console, table).maximum - wide
    for _ in range(excess):
        able = [at for at in range(len(widths)) if widths[at] > least[at]]
        if not able:
            break
        widths[max(able, key=lambda at: widths[at])] -= 1
        excess -= 1
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    return excess <= 0


def _natural(console: Console, column: Column) -> int:
    return max(_sizes(console, [column.header, *column.cells], whole=True), default=1)


def _least(console: Console, column: Column) -> int:
    whole = column.justify == "right" or column.no_wrap
    heading = max(_sizes(console, [column.header], whole=column.no_wrap))
    return max([heading, *_sizes(console, column.cells, whole=whole)])


def _sizes(console: Console, cells: Iterable[object], *, whole: bool) -> Sequence[int]:
    """The width of each cell: of its longest line if `whole`, else of its longest word."""
    options = console.options.update(width=_ANY_WIDTH)
    measured = [Measurement.get(console, options, cell) for cell in cells]  # type: ignore[arg-type]
    return [each.maximum if whole else each.minimum for each in measured]


def _measured(console: Console, table: Table) -> Measurement:
    return Measurement.get(console, console.options.update(width=_ANY_WIDTH), table)


def in_words(count: float) -> str:
    """1,340,000 as "1.34 million", 12,850,000,000 as "12.85 billion"."""
    if count < 1e9:
        return f"{count / 1e6:,.2f} million"
    return f"{count / 1e9:,.2f} billion"
