"""Reads parts of our parameters out of Hugging Face's safetensors, and nothing beside them.

A file is mapped into memory while a part is copied, and no longer: so no process ever holds more
than the parts it asked for. Who passes over all of a model once reads its rows past the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from configs.errors import InputError
from models.huggingface.family import Family
from models.huggingface.read_once import ReadOnce
from models.huggingface.tensors import Origin, Rows
from models.initialise import Part
from models.scratch import is_finite
from models.shape import ModelShape


class Weights:
    """The parameters of a model in files of Hugging Face's.

    Args:
        files: the file that holds each of their tensors.
    """

    def __init__(self, family: Family, shape: ModelShape, files: Mapping[str, Path]) -> None:
        self.shape = shape
        self._files = files
        self._origins = family.origins(shape)
        self._once = ReadOnce()

    def rows(self, name: str, first: int, size: int) -> Tensor:
        """Rows of a parameter by its global name, float32."""
        out = torch.empty(size, *self.shape.parameter(name).shape[1:])
        self._fill(out, self._origins[name], first, 0)
        return out

    def stream(self, name: str, out: Tensor, first: int) -> None:
        """Fills `out` with the rows of a parameter from `first` on, read for this once.

        Raises InputError for a tensor with numbers that are infinite or NaN.
        """
        origin = self._origins[name]
        if origin.transposed:
            self._fill(out, origin, first, 0)
        else:
            for span in origin.spans(first, len(out)):
                theirs = self._once.rows(self._files[span.tensor], span)
                for at, rows in span.places:
                    begin = rows.start - span.start
                    out[at - first : at - first + rows.size] = theirs[begin : begin + rows.size]
        if not is_finite(out):
            tensor = next(
                rows.tensor
                for at, rows in origin.overlapping(first, len(out))
                if not is_finite(out[at - first : at - first + rows.size])
            )
            raise InputError(f"{tensor}: has numbers that are infinite or NaN")

    def part(self, name: str, part: Part, shape: tuple[int, ...]) -> Tensor:
        """A rank's part, of `shape`, float32; padding is 0."""
        origin, whole = self._origins[name], self.shape.parameter(name).shape
        if part.dim is None:
            return self.rows(name, 0, whole[0])
        out = torch.zeros(shape)
        for piece in part.pieces(whole[part.dim], shape[part.dim]):
            here = out.narrow(part.dim, piece.at, piece.size)
            rows, columns = (piece.start, 0) if part.dim == 0 else (0, piece.start)
            self._fill(here, origin, rows, columns)
        return out

    def _fill(self, out: Tensor, origin: Origin, first: int, column: int) -> None:
        """Copies what begins at a row and a column of the parameter."""
        by_file: dict[Path, list[tuple[int, Rows]]] = {}
        for at, rows in origin.overlapping(first, len(out)):
            by_file.setdefault(self._files[rows.tensor], []).append((at - first, rows))
        for path, runs in by_file.items():
            with safe_open(path, "pt") as file:
                for at, rows in runs:
                    theirs = file.get_slice(rows.tensor)
                    along = slice(rows.start, rows.start + rows.size)
                    if out.dim() == 1:
                        found = theirs[along]
                    else:
                        across = slice(column, column + out.shape[1])
                        found = (
                            theirs[across, along].t()
                            if origin.transposed
                            else theirs[along, across]
                        )
                    out[at : at + rows.size] = found
