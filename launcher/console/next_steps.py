"""Commands to paste after a finished run, for users who have just completed their first."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.override import override, shell_command
from configs.schema import Run
from launcher.console.run_tables import shown
from launcher.run.settings import key_of, lasts
from parallel.batch_schedule import steps_of

_MORE = 10  # steps


def next_steps(run: Run, folder: Path, given: Sequence[str]) -> str:
    """Five commands, each with a description; `given` are the overrides of the run."""
    where, phalanx = override("run_dir", shown(folder)), _phalanx()
    same = [each for each in given if lasts(each) and key_of(each) != "train.steps"]
    other = "pp2" if run.layout.pipeline != 2 or run.layout.tensor > 1 else "tp2"
    steps = steps_of(run)
    commands = {
        "text from it": ["generate", where, "generate.prompt=The "],
        "what it scores, on twenty questions a task": ["evaluate", where, "evaluate.limit=20"],
        "what its layout costs": ["plan", where],
        "it goes on under another layout": [
            *("train", where, f"layout={other}", f"train.steps={steps + _MORE}")
        ],
        "two layouts, the same training": [
            *("parity", *(each for each in same if not each.startswith("layout"))),
            *(f"layout={other}", "against=single"),
        ],
    }
    lines = [f"  # {does}\n  {shell_command(phalanx, *words)}" for does, words in commands.items()]
    return "\n".join(["what next:", *lines])


def _phalanx() -> str:
    """The command as it can be typed in this shell."""
    beside, found = Path(sys.executable).with_name("phalanx"), shutil.which("phalanx")
    on_the_path = found is not None and beside.exists() and os.path.samefile(found, beside)
    return shown(beside) if beside.exists() and not on_the_path else "phalanx"
