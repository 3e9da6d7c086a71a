from __future__ import annotations

from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from corpus.machine import packages
from corpus.machine.packages import installed_hash, package_documents


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(packages, "package_folders", lambda: [str(tmp_path)])
    return tmp_path


def install(site: Path, name: str, version: str, files: dict[str, bytes]) -> PathDistribution:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"
    (info / "METADATA").write_bytes(head.encode() + files.pop("METADATA", b""))
    for path, content in files.items():
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_bytes(content)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in files))
    return PathDistribution(info)


def test_a_package_gives_its_description_and_its_prose(site: Path) -> None:
    files = {
        "METADATA": b"# Bread\n\nbakes.\n",
        "bread/GUIDE.md": b"How to bake.",
        "bread/code.py": b"pass",
        "bread/latin.txt": b"caf\xe9",
        "bread/top_level.txt": b"bread",
        "tests/notes.rst": b"not this",
    }
    install(site, "bread", "1.0", files)
    assert [(each.name, each.text) for each in package_documents()] == [
        ("bread", "# Bread\n\nbakes.\n"),
        ("bread/GUIDE.md", "How to bake."),
    ]


def test_another_version_has_another_hash(site: Path) -> None:
    install(site, "bread", "1.0", {})
    before = installed_hash()
    assert before == installed_hash()
    install(site, "butter", "2.0", {})
    assert installed_hash() != before
