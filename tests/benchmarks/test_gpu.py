"""What `benchmarks.gpu` measured is kept, whatever fails beside it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli import phalanx

# The first comparison of banded attention with the mask fails.
ONE_FAILS = """
import torch
torch.set_num_threads(1)  # two would wait for each other while other tests have the cores
from benchmarks import gpu, gpu_kernels

whole = torch.testing.assert_close
def fails_once(*given, **named):
    torch.testing.assert_close = whole
    raise AssertionError("made to differ")
torch.testing.assert_close = fails_once
gpu.main()
"""


def test_one_comparison_that_fails_costs_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--models", "gpt3_nano", "--tokens", "64", "128"]
    done = phalanx.python("-c", ONE_FAILS, *options, "--out", str(out))
    assert done.status == 1, done.errors
    assert "failed: attention of 64 tokens" in done.errors
    measured = json.loads(out.read_text(encoding="utf-8"))
    assert measured["failures"] == {"attention of 64 tokens": "AssertionError: made to differ"}
    assert [row["tokens"] for row in measured["attention"]] == [128]
    assert measured["models"]["gpt3_nano"]["step_s"] > 0
    assert measured["matmuls"]
    assert measured["seconds"] > 0
