"""The entry point for torchrun: `torchrun -m launcher.train`, or `python -m launcher.train`."""

from __future__ import annotations

import os
import sys

from launcher.cli import guarded
from launcher.commands.train import app

if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.exit(guarded(app))
