"""`phalanx ARGUMENTS` in a process that is forked and not started anew.

The forkserver of the ranks' pool has imported torch, Megatron-core and the command line once; a
command forked from it is the same code in a process of its own, with its exit status, and so are
the ranks that it starts. Real starts, of an interpreter for each, are tests.cli's other ways.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.pool import PRELOADED


def run(
    arguments: list[str], environment: Mapping[str, str], folder: Path, timeout_s: float
) -> tuple[int, str, str]:
    """Exit status, and what went to stdout and stderr.

    Raises AssertionError where it does not end in time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch) / "out", Path(scratch) / "err"
        process = context.Process(
            target=_command, args=(arguments, dict(environment), str(folder), str(out), str(err))
        )
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.terminate()
            process.join()
            raise AssertionError(f"phalanx {' '.join(arguments)}: not over in {timeout_s} s")
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
    return process.exitcode, texts[0], texts[1]


def _command(
    arguments: list[str], environment: Mapping[str, str], folder: str, out: str, err: str
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    sys.argv = ["phalanx", *arguments]
    _fork_ranks()
    from launcher.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _fork_ranks() -> None:
    """Ranks that torch's elastic agent would start as `python -P -m launcher.worker` it forks."""
    from dataclasses import replace

    from torch.distributed.launcher import api

    starting: Any = api.elastic_launch

    class Forking(starting):  # type: ignore[misc]
        def __call__(self, *words: str) -> Any:
            flag, module, name, *rest = words
            assert (flag, module, name) == ("-P", "-m", "launcher.worker")
            forked = replace(self._config, start_method="fork")
            return starting(forked, _rank)(*rest)

    api.elastic_launch = Forking  # type: ignore[misc]


def _rank(*arguments: str) -> None:
    import torch

    from launcher.worker import main

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sys.argv = ["launcher.worker", *arguments]
    main()
