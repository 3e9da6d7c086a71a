"""The house rules: who may import whom, what plans without torch, and how long a file may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("launcher", "slurm", "evals", "corpus", "parallel", "models", "configs", "benchmarks")

# Who may import whom besides itself; configs is open to all.
MAY_IMPORT = {
    "benchmarks": {"launcher", "slurm", "evals", "corpus", "parallel", "models"},
    "launcher": {"slurm", "evals", "corpus", "parallel", "models"},
    "slurm": {"models", "parallel"},
    "evals": {"models", "parallel", "corpus"},
    "corpus": {"models"},
    "parallel": {"models"},
    "models": set(),
    "configs": set(),
}

PLANNING = (
    "configs.atomic",
    "configs.schema",
    "configs.load",
    "configs.errors",
    "models.shape",
    "models.flops",
    "parallel.layout",
    "parallel.batch_schedule",
    "parallel.lr_schedule",
    "parallel.rules",
    "parallel.engines.registry",
    "launcher.start.registry",
)

MAX_FILES = 12  # beside each other in a folder, less its __init__.py

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 400


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def imported(path: Path) -> set[str]:
    """The files of ours that a file imports anywhere, by module name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: import by full name"
            assert node.module
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from package import module` names a file, `from module import name` does not.
            found |= (inside & MODULES.keys()) or {node.module}
    return {name for name in found if name.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downward(module: str) -> None:
    package = module.split(".")[0]
    others = {name.split(".")[0] for name in imported(MODULES[module])} - {package, "configs"}
    assert others <= MAY_IMPORT[package]


def test_no_file_imports_itself_through_others() -> None:
    graph = {module: imported(path) - {module} for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


ROOMS = {".".join(path.parent.relative_to(ROOT).parts): path.parent for path in SOURCES}


def room_of(module: str) -> str:
    return ".".join(MODULES[module].parent.relative_to(ROOT).parts)


def between_rooms() -> dict[str, set[str]]:
    """Of each room those that its files import from."""
    graph: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, path in MODULES.items():
        others = {room_of(name) for name in imported(path) if name in MODULES}
        graph[room_of(module)] |= others - {room_of(module)}
    return graph


BETWEEN = between_rooms()
OPEN = {room for room in ROOMS if room.split(".")[0] == "configs"}


def seen_from(room: str, others: set[str]) -> set[str]:
    """Rooms of the same package by name, others by their package, and configs, which is open."""
    package = room.split(".")[0]
    return {
        other if other.split(".")[0] == package else other.split(".")[0]
        for other in others
        if other.split(".")[0] != "configs" or room.split(".")[0] == "configs"
    }


def said(room: str, words: str) -> set[str]:
    doc = ast.get_docstring(ast.parse((ROOMS[room] / "__init__.py").read_text(encoding="utf-8")))
    assert doc, f"{room}/__init__.py says what lives there"
    line = re.search(rf"^{words} ([^.]+(?:\.\w[^.]*)*)\.$", doc, re.MULTILINE)
    assert line, f"{room}/__init__.py: {words} ..."
    return set(re.split(r",\s+", line[1]))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_imports_and_who_imports_it(room: str) -> None:
    imports = seen_from(room, BETWEEN[room])
    nothing = {"nothing of ours"} if room in OPEN else {"nothing of ours but configs"}
    assert said(room, "Imports") == (imports or nothing)
    users = {other for other, theirs in BETWEEN.items() if room in theirs}
    if not room.startswith("benchmarks"):  # which look into everything
        users = {user for user in users if not user.startswith("benchmarks")}
    everything = {"everything"} if room in OPEN else seen_from(room, users) or {"nothing"}
    assert said(room, "Imported by") == everything


def test_no_room_imports_itself_through_others() -> None:
    try:
        TopologicalSorter(BETWEEN).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_looked_over_at_a_glance(room: str) -> None:
    files = [path for path in ROOMS[room].iterdir() if path.suffix == ".py"]
    assert len([path for path in files if path.name != "__init__.py"]) <= MAX_FILES


@pytest.mark.parametrize("module", MODULES)
def test_a_file_fits_in_the_head(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


DOCUMENTED = [module for module in MODULES if module.split(".")[0] != "benchmarks"]


def without_docstring(body: list[ast.stmt], inside: str = "") -> Iterator[str]:
    """The public definitions that say nothing of themselves, methods after their class."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                yield f"line {node.lineno}: {inside}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from without_docstring(node.body, f"{inside}{node.name}.")


@pytest.mark.parametrize("module", DOCUMENTED)
def test_every_public_definition_has_a_docstring(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert list(without_docstring(tree.body)) == [], f"{MODULES[module]}: say what these do"


# What they list has a length that our own code sets, or is a line for each word that was typed.
LISTS_ARE_SHORT = {
    "corpus.tokenizer.tokenizer",
    "evals.tasks",
    "launcher.command_line.arguments",
    "launcher.command_line.explain",
    "launcher.commands.parity",
    "launcher.inference.prompts",
    "parallel.checkpoint.manifest",
    "parallel.rules",
    "parallel.rules.cut",
}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - LISTS_ARE_SHORT))
def test_lists_in_messages_are_cut(module: str) -> None:
    """By configs.words.listed: 300 sources once were an error of nine kilobytes."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("InputError", "RunError"):
            assert ".join(" not in ast.unparse(node), f"{module}:{node.lineno}"


def test_tests_are_no_package() -> None:
    # tests/parallel/__init__.py would be imported as `parallel` and hide ours.
    assert not list((ROOT / "tests").rglob("__init__.py"))


NEED_NO_TORCH = [
    *PLANNING,
    *(
        module
        for module in MODULES
        if module.startswith(("slurm", "parallel.planner", "launcher.command_line", "launcher.run"))
        and not module.startswith("parallel.planner.trace")
    ),
]


def test_planning_needs_no_torch() -> None:
    code = f"import sys; sys.modules['torch'] = None; import {', '.join(NEED_NO_TORCH)}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
