"""A preparation that is killed again and again ends with the very bytes of one that is not."""

from __future__ import annotations

import pickle
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil

from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig
from corpus.prepare.prepare import prepare
from corpus.store.prepared import Prepared
from tests.cli import ROOT, environment

KILLS = 20
PREPARE = """
import pickle, sys
from corpus.prepare.prepare import prepare
units.SMALL = 2_000
corpus, model = pickle.load(open(sys.argv[1], "rb"))
if __name__ == "__main__":
    prepare(corpus, model)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_kills_at_random_moments_do_not_show(
    mixed_corpus: CorpusConfig,
    model: ModelConfig,
    mixed: Prepared,
    tmp_path: Path,
) -> None:
    corpus = replace(mixed_corpus, workers=2)
    (tmp_path / "job").write_bytes(pickle.dumps((corpus, model)))
    (tmp_path / "prepare.py").write_text(PREPARE)
    dice, hits, root = random.Random(3), 0, Path(str(corpus.cache))
    while hits < KILLS:
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "prepare.py"), str(tmp_path / "job")],
            env=environment(),
            cwd=ROOT,
        )
        time.sleep(dice.uniform(0.3, 1.6))
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        hits += process.wait() != 0
        assert psutil.wait_procs(children, timeout=60)[1] == []
        for done in root.glob("*/manifest.json"):  # it was faster; the next begins anew
            assert contents(done.parent) == contents(mixed.folder)
            shutil.rmtree(root)
    assert contents(prepare(corpus, model).folder) == contents(mixed.folder)
