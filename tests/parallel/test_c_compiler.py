"""What Triton needs to compile, looked for on a made-up PATH and in made-up headers."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from parallel import c_compiler
from parallel.c_compiler import lacking_for_triton


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder on the PATH, empty; CC is not set, and Python.h is there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CC", raising=False)
    headers = tmp_path / "include"
    headers.mkdir()
    (headers / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _name, _scheme: str(headers))
    return folder


def install(folder: Path, name: str) -> Path:
    program = folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_either_compiler_will_do(programs: Path, name: str) -> None:
    install(programs, name)
    assert lacking_for_triton() is None


def test_no_compiler(programs: Path) -> None:
    install(programs, "g++")
    said = lacking_for_triton()
    assert said is not None
    assert "neither gcc nor clang is on the PATH; nearest: install gcc" in said


def test_cc_names_it(programs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", str(install(tmp_path, "cc-13")))
    assert lacking_for_triton() is None


@pytest.mark.parametrize("named", ["icx", "ccache gcc", ""])
def test_cc_that_is_no_program(programs: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    install(programs, "gcc")  # which Triton does not look for then
    monkeypatch.setenv("CC", named)
    said = lacking_for_triton()
    assert said is not None
    assert f"CC={named} is no program; nearest: unset CC" in said


def test_no_headers(programs: Path, tmp_path: Path) -> None:
    install(programs, "gcc")
    (tmp_path / "include" / "Python.h").unlink()
    said = lacking_for_triton()
    assert said is not None
    assert f"{tmp_path / 'include'} has no Python.h; nearest: install python3." in said
    assert "\n" not in said


def test_debians_scheme_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its headers would be in /usr/local, where none are."""
    monkeypatch.setattr(sysconfig, "get_default_scheme", lambda: "posix_local")
    monkeypatch.setattr(sysconfig, "get_path", lambda name, scheme: f"/{scheme}/{name}")
    assert c_compiler.python_headers() == Path("/posix_prefix/include")
