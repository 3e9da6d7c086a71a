"""The house rules: who may import whom, what plans without torch, and how long a file may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("launcher", "slurm", "evals", "corpus", "parallel", "models", "configs")

# Who may import whom besides itself; configs is open to all.
MAY_IMPORT = {
    "launcher": {"slurm", "evals", "corpus", "parallel", "models"},
    "slurm": {"models", "parallel"},
    "evals": {"models", "parallel", "corpus"},
    "corpus": {"models"},
    "parallel": {"models"},
    "models": set(),
    "configs": set(),
}

PLANNING = (
    "configs.schema",
    "configs.load",
    "configs.errors",
    "models.shape",
    "models.flops",
    "parallel.layout",
    "parallel.batches",
    "parallel.learning_rate",
    "parallel.rules",
)

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


@pytest.mark.parametrize("module", MODULES)
def test_a_file_fits_in_the_head(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


# What they list has a length that our own code sets, or is a line for each word that was typed.
LISTS_ARE_SHORT = {
    "corpus.tokenizer",
    "evals.tasks",
    "launcher.arguments",
    "launcher.explain",
    "launcher.gpt2_folder",
    "launcher.parity",
    "launcher.prompts",
    "models.huggingface",
    "parallel.checkpoint_files",
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


def test_planning_needs_no_torch() -> None:
    code = f"import sys; sys.modules['torch'] = None; import {', '.join(PLANNING)}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
