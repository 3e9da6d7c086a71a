"""Where the rows of our parameters lie in tensors of Hugging Face's.

Theirs are often several: queries, keys and values, or both halves of a gated MLP, are one matrix
here. A parameter's rows are a sequence of runs, each from one tensor of theirs, so any part of any
parameter can be read, and any part written, without the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

from models.layer_table import Parameter
from models.shape import ModelShape


@dataclass(frozen=True, slots=True)
class Rows:
    """`size` rows of our parameter, the next ones, are those of `tensor` from `start` on."""

    tensor: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one of their tensors that lie one after the other.

    Attributes:
        places: where each of them are in our parameter: the first row of ours, and theirs.
    """

    tensor: str
    start: int
    size: int
    places: tuple[tuple[int, Rows], ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """All rows of one parameter, in order.

    Attributes:
        rows: of their tensors; columns where they are stored transposed.
        columns: of ours; None for a vector.
    """

    rows: tuple[Rows, ...]
    columns: int | None
    transposed: bool = False

    def overlapping(self, first: int, size: int) -> Iterator[tuple[int, Rows]]:
        """Where rows from `first` on lie: each time the first of ours, and theirs."""
        at = 0
        for rows in self.rows:
            begin, end = max(at, first), min(at + rows.size, first + size)
            if begin < end:
                yield begin, Rows(rows.tensor, rows.start + begin - at, end - begin)
            at += rows.size

    def spans(self, first: int, size: int) -> Iterator[Span]:
        """What `overlapping` gives, as few spans as there can be: query groups, which take turns
        here, follow each other there.
        """
        found = sorted(
            self.overlapping(first, size), key=lambda place: (place[1].tensor, place[1].start)
        )
        places: list[tuple[int, Rows]] = []
        for place, after in zip_longest(found, found[1:]):
            places.append(place)
            rows, end = place[1], place[1].start + place[1].size
            if after is None or (after[1].tensor, after[1].start) != (rows.tensor, end):
                start = places[0][1].start
                yield Span(rows.tensor, start, end - start, tuple(places))
                places = []

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The whole shape of each of their tensors."""
        ends: dict[str, int] = {}
        for rows in self.rows:
            ends[rows.tensor] = max(ends.get(rows.tensor, 0), rows.start + rows.size)
        if self.columns is None:
            return {name: (end,) for name, end in ends.items()}
        columns = self.columns
        return {
            name: (columns, end) if self.transposed else (end, columns)
            for name, end in ends.items()
        }


class Source(Protocol):
    """Their name, or names, for one of our modules; {} stands for the number of an expert."""

    def rows(self, shape: ModelShape, count: int) -> Iterator[tuple[str, int, int]]:
        """The runs of all `count` rows: name, start and size."""
        ...


@dataclass(frozen=True, slots=True)
class Same:
    """One module with the same rows."""

    name: str

    def rows(self, shape: ModelShape, count: int) -> Iterator[tuple[str, int, int]]:
        """One run."""
        yield self.name, 0, count


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries, keys and values: three modules, or blocks of one module; here by query group."""

    names: tuple[str, str, str]

    def rows(self, shape: ModelShape, count: int) -> Iterator[tuple[str, int, int]]:
        """Three runs for each group."""
        query, width = shape.heads // shape.query_groups * shape.head_width, shape.head_width
        sizes = (query, width, width)
        # Within one module keys come after all queries, and values after all keys.
        begins = [0, 0, 0]
        for number in (1, 2):
            if self.names[number] == self.names[number - 1]:
                begins[number] = begins[number - 1] + sizes[number - 1] * shape.query_groups
        for group in range(shape.query_groups):
            for name, begin, size in zip(self.names, begins, sizes, strict=True):
                yield name, begin + group * size, size


@dataclass(frozen=True, slots=True)
class Halves:
    """A gated MLP's two linears, the gate first."""

    names: tuple[str, str]

    def rows(self, shape: ModelShape, count: int) -> Iterator[tuple[str, int, int]]:
        """Two runs."""
        for name in self.names:
            yield name, 0, count // 2


def origin(
    source: Source,
    kind: str,
    parameter: Parameter,
    shape: ModelShape,
    prefix: str,
    transposed: bool = False,
) -> Origin:
    """The origin of a parameter. `kind`: weight or bias; `prefix`: of their names."""
    rows, *columns = parameter.shape
    return Origin(
        tuple(
            Rows(f"{prefix}{name.format(parameter.expert)}.{kind}", start, size)
            for name, start, size in source.rows(shape, rows)
        ),
        columns[0] if columns else None,
        transposed and bool(columns),
    )
