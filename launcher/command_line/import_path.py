"""Makes imports resolve to Phalanx's own packages, whatever is in the current folder.

`python -m launcher.train` puts the current folder first on the path, and a `models/` or `configs/`
there would shadow ours.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def settle() -> None:
    """Removes the current folder from the path, unless Phalanx lies in it.

    Ranks start without the current folder (`python -P`), so PYTHONPATH points them to ours where
    nothing else does.
    """
    if sys.flags.safe_path or not sys.path:
        return
    ours, current = str(Path(__file__).resolve().parents[2]), os.getcwd()
    if current != ours and sys.path[0] in ("", current):
        del sys.path[0]
    elif current == ours and ours not in sys.path[1:]:
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{ours}{os.pathsep}{before}" if before else ours
