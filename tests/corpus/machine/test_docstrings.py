from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from corpus.machine import docstrings
from corpus.machine.docstrings import docstring_documents

MODULE = '''"""What this module is for."""

import nowhere

def first(a):
    """Does one thing.

        And it tells how."""

class Second:
    """A thing."""
    async def third(self):
        "A method with \\d in it."
        def inner():
            """Seldom seen."""
    def fourth(self): pass

try:
    def fifth(): """There at times."""
except ImportError:
    def sixth(): """There at others."""
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(docstrings, "package_folders", lambda: [str(tmp_path)])
    monkeypatch.setattr(docstrings, "SHORTEST", 20)
    (tmp_path / "package").mkdir()
    return tmp_path


def test_docstrings_come_in_order_below_their_names(site: Path) -> None:
    (site / "package/module.py").write_text(MODULE)
    with warnings.catch_warnings(action="error"):
        (document,) = docstring_documents()
    assert "nowhere" not in sys.modules
    assert document.name == "package.module"
    assert document.text == (
        "package.module\n\nWhat this module is for.\n\n\n"
        "package.module.first\n\nDoes one thing.\n\nAnd it tells how.\n\n\n"
        "package.module.Second\n\nA thing.\n\n\n"
        "package.module.Second.third\n\nA method with \\d in it.\n\n\n"
        "package.module.Second.third.inner\n\nSeldom seen.\n\n\n"
        "package.module.fifth\n\nThere at times.\n\n\n"
        "package.module.sixth\n\nThere at others.\n"
    )


def test_modules_that_say_little_or_are_no_python_are_left_out(site: Path) -> None:
    (site / "package/__init__.py").write_text('"""Says something worth reading."""')
    (site / "package/short.py").write_text('"""Little."""')
    (site / "package/template.py").write_text('"""Says something."""\n{{ code }} here')
    (site / "package/deep.py").write_text("x = " + "-" * 100_000 + "1")
    (site / "package/zeros.py").write_bytes(bytes(10))
    (site / "package/tests").mkdir()
    (site / "package/tests/test_it.py").write_text('"""Says something worth reading too."""')
    assert [document.name for document in docstring_documents()] == ["package"]
