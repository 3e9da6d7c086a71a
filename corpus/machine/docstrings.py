"""Docstrings of the installed packages, one document per module. Imports none of them."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from corpus.machine.documents import Named, hashed
from corpus.machine.packages import TESTS, package_folders

SHORTEST = 300  # characters of docstrings; a module with fewer is left out
SKIPPED = TESTS | {"__pycache__"}

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstring_documents() -> Iterator[Named]:
    """A module's docstrings in order, each below the name of its object."""
    for name, path in sorted(_modules(), key=lambda named: hashed(named[0])):
        try:
            source = path.read_bytes()
            with warnings.catch_warnings(action="ignore"):  # about invalid escapes
                docstrings = list(_docstrings(ast.parse(source), name))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            # A template, code for another Python, or nesting so deep that the parser reports a
            # lack of memory.
            continue
        if sum(len(docstring) for _, docstring in docstrings) >= SHORTEST:
            text = "\n\n\n".join(f"{title}\n\n{docstring}" for title, docstring in docstrings)
            yield Named(name, f"{text}\n")


def _modules() -> Iterator[tuple[str, Path]]:
    for top in map(Path, package_folders()):
        for root, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name not in SKIPPED]
            for path in (Path(root, name) for name in files if name.endswith(".py")):
                parts = path.relative_to(top).with_suffix("").parts
                yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Names and docstrings of a module, class or function and of everything defined in it."""
    if isinstance(node, _Documented) and (docstring := ast.get_docstring(node)):
        yield name, docstring
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{name}.{child.name}")
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _docstrings(child, name)
