"""Gives this process a CUDA device that does nothing, if its torch is built without CUDA.

Call `load` before torch is imported. It needs g++, and compiles for a second or two.
"""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("device.cpp")


def load() -> None:
    """Raises RuntimeError if torch is there already, CalledProcessError without a compiler."""
    if "torch" in sys.modules:
        raise RuntimeError("torch has looked for its devices already")
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    torch = Path(spec.origin).parent
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "device.so"
        flags = ["-std=c++20", "-O0", "-shared", "-fPIC", f"-I{torch / 'include'}"]
        linked = [f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu"]
        subprocess.run(["g++", *flags, str(SOURCE), "-o", str(library), *linked], check=True)
        for name in ("libtorch_global_deps.so", "libtorch_cpu.so"):
            ctypes.CDLL(str(torch / "lib" / name), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
