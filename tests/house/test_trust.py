"""What no file of ours does: a file from a stranger runs no code (docs/decisions/trust.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from configs.load import read
from tests.house.test_structure import MODULES

# Each unpickles with a closed list of stand-ins.
UNPICKLERS = {"parallel.checkpoint.metadata", "parallel.checkpoint.reader"}
RUNS_CODE = {
    *("pickle.load", "pickle.loads", "torch.load", "joblib.load", "marshal.loads", "dill.load"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "shelve.open", "eval", "exec"),
    *("pandas.read_pickle", "torch.hub.load", "torch.jit.load", "runpy.run_path", "os.system"),
}


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_read_that_may_run_code(module: str) -> None:
    for name, call in calls(module):
        assert name not in RUNS_CODE, call.lineno
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("allow_pickle", "False") == "False", call.lineno
        assert given.get("trust_remote_code", "False") == "False", call.lineno
        assert given.get("weights_only", "True") == "True", call.lineno
        assert given.get("shell", "False") == "False", call.lineno
    names = ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    unpicklers = [it for it in names if isinstance(it, ast.Attribute) and it.attr == "Unpickler"]
    assert bool(unpicklers) == (module in UNPICKLERS)


@pytest.mark.parametrize("module", MODULES)
def test_a_name_with_brackets_is_no_markup(module: str) -> None:
    for name, call in calls(module):
        if name == "Console":
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert given.get("markup") == "False", call.lineno


def test_a_config_makes_no_object(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "config.yaml"
    for tag in ("object/apply:os.system", "object/new:os.system", "name:os.system"):
        path.write_text(f"run_dir: !!python/{tag} ['touch {mark}']\n")
        with pytest.raises((yaml.YAMLError, ValueError)):
            read(path)
    assert not mark.exists()
