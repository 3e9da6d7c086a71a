"""The command line and the processes that it starts; the topmost package.

Imports corpus, launcher.command_line, launcher.commands, launcher.console, launcher.failure,
launcher.huggingface, launcher.inference, launcher.run, launcher.start, launcher.training, parallel.
Imported by nothing.
"""

import sys

from launcher.command_line.import_path import settle

if sys.argv[:1] == ["-m"]:  # python -m launcher...: Python is still looking for what to run
    settle()
