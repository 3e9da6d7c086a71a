"""Text that every installation can generate itself, in the formats of users' data.

Imports corpus.formats, corpus.store.
Imported by corpus.sources, evals, launcher.
"""

from corpus.machine.making import machine_file, machine_path

__all__ = ["machine_file", "machine_path"]
