"""How a run starts: the command line, the ranks, the training loop."""

import sys

from launcher.import_path import settle

if sys.argv[:1] == ["-m"]:  # python -m launcher...: Python is still looking for what to run
    settle()
