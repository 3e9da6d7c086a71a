"""Where Phalanx's packages come from: its own folder, whatever lies in the current one.

`python -m launcher.train` puts the current folder first on the path, and a `models/` or `configs/`
there would be taken for ours.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def settle() -> None:
    """Leaves the current folder out, unless it is the one that Phalanx lies in.

    Ranks start without the current folder (`python -P`), so they are told of ours where nothing
    else does.
    """
    if sys.flags.safe_path or not sys.path:
        return
    ours, current = str(Path(__file__).resolve().parents[2]), os.getcwd()
    if current != ours and sys.path[0] in ("", current):
        del sys.path[0]
    elif current == ours and ours not in sys.path[1:]:
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{ours}{os.pathsep}{before}" if before else ours
