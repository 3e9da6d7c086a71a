"""The entry point for torchrun: `torchrun -m launcher.train`, or `python -m launcher.train`."""

from __future__ import annotations

import os
import sys
import traceback

from launcher.cli import guarded
from launcher.commands.train import app
from launcher.start.world import leave_at_once

if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        status = guarded(app)
    except Exception:  # debug=true
        traceback.print_exc()
        status = 1
    if status and "RANK" in os.environ:
        leave_at_once(status)
    sys.exit(status)
