"""Text that every installation can make for itself, in the formats that a user's data comes in.

Imports corpus.formats, corpus.store.
Imported by corpus.sources, evals, launcher.
"""

from corpus.machine.making import machine_file, machine_path

__all__ = ["machine_file", "machine_path"]
