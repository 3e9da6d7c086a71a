from __future__ import annotations

from pathlib import Path

import pytest

from configs.settings.text import MachineText
from corpus.machine import machine_file


@pytest.fixture(scope="session")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real crawl of 60 kB."""
    return machine_file(MachineText.crawl, tmp_path_factory.mktemp("crawl"), 60_000, print)
