"""The recipes of the two containers: one base, one way of installing, and nothing left out."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import subprocess
import tomllib

from packaging.requirements import Requirement
from packaging.version import Version

from tests.cli import ROOT

FOLDER = ROOT / "containers"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
RECIPE = (FOLDER / "phalanx.def").read_text()
INSTALL = (FOLDER / "install.sh").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What the release notes of the base say it has; a new base has to be looked up.
BASE = "nvcr.io/nvidia/pytorch:25.12-py3"
HAS = {
    "torch": "2.10.0a0+b4e4ee81d3.nv25.12",
    "transformer-engine": "2.10.0",
    "flash-attn": "2.7.4.post1",
}
PYTHON = "3.12"
ENGINES = {"torch", "megatron-core", "deepspeed"}


def copied_by_docker() -> dict[str, str]:
    """What goes where, each file by itself."""
    found = {}
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            name = source.rpartition("/")[2]
            found[source] = f"{target}{name}" if target.endswith("/") else target
    return found


def section(name: str) -> str:
    found = re.search(rf"^%{name}\n(.*?)(?=^%|\Z)", RECIPE, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def copied_by_apptainer() -> dict[str, str]:
    found = {}
    for line in section("files").split("\n"):
        if line.strip():
            source, target = line.split()
            found[source] = target
    return found


def test_both_have_one_base() -> None:
    assert re.findall(r"^FROM (.+)$", DOCKERFILE, re.MULTILINE) == [BASE]
    assert re.findall(r"^From: (.+)$", RECIPE, re.MULTILINE) == [BASE]
    assert "Bootstrap: docker\n" in RECIPE


def test_the_base_has_what_is_asked_for() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["cuda"], *extras["flash-attn"]]
    found = [each for each in map(Requirement, asked) if each.name in HAS]
    assert {each.name for each in found} == HAS.keys()
    for requirement in found:
        # As pip judges what is installed: NVIDIA's torch is a build before the release.
        assert requirement.specifier.contains(HAS[requirement.name], prereleases=True)
    python = Requirement(f"python{project['requires-python']}")
    assert python.specifier.contains(Version(PYTHON))


def test_both_copy_the_same_to_the_same_places() -> None:
    assert copied_by_docker() == copied_by_apptainer()


def test_what_is_copied_is_there_and_makes_the_wheel() -> None:
    copied = copied_by_docker()
    assert [source for source in copied if not (ROOT / source).exists()] == []
    packages = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= copied.keys()
    project = PROJECT["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml"} <= copied.keys()
    assert all(target.startswith("/opt/phalanx/") for target in copied.values())


def test_both_install_by_the_one_script() -> None:
    script = "bash /opt/phalanx/containers/install.sh"
    assert f"RUN {script}\n" in DOCKERFILE
    assert section("post").split("\n")[0].strip() == script
    assert "pip " not in DOCKERFILE + RECIPE
    subprocess.run(["bash", "-n", str(FOLDER / "install.sh")], check=True)
    for name in re.findall(r"containers/[\w.]+", INSTALL):
        assert name in copied_by_docker()


def test_both_compute_float32_as_float32() -> None:
    setting = "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=0"
    assert f"ENV {setting}\n" in DOCKERFILE
    assert f"export {setting}\n" in section("environment")


def test_everything_that_is_asked_for_is_installed() -> None:
    added = runpy.run_path(str(FOLDER / "requirements.py"))["added"]()
    names = {Requirement(each).name for each in added}
    ours = {Requirement(each).name for each in PROJECT["project"]["dependencies"]}
    needed = [
        Requirement(each)
        for engine in ("deepspeed", "megatron-core")
        for each in importlib.metadata.requires(engine) or []
    ]
    theirs = {each.name for each in needed if each.marker is None}
    assert names == (ours | theirs) - ENGINES
    assert names & ENGINES == set()


def test_the_engines_come_without_what_they_ask_for() -> None:
    [line] = [line for line in INSTALL.splitlines() if "$engines" in line]
    assert "--no-deps" in line
    pins = subprocess.run(
        ["grep", "-E", "^(megatron-core|deepspeed)==", "constraints.txt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert [pin.partition("==")[0] for pin in pins] == ["deepspeed", "megatron-core"]
    assert "grep -E '^(megatron-core|deepspeed)==' constraints.txt" in INSTALL
