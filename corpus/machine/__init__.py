"""Text that every installation can make for itself, in the formats that a user's data comes in."""

from corpus.machine.making import machine_file, machine_path

__all__ = ["machine_file", "machine_path"]
