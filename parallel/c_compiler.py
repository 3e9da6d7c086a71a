"""What Triton compiles its kernels' launchers with: a C compiler and Python's headers.

Triton does so when a process first runs a kernel, which is in the first step. This looks for the
two where Triton looks, compiles nothing, and imports no torch.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path


def lacking_for_triton() -> str | None:
    """What Triton will not find, and the package that has it, in one line; None if it finds all."""
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"Triton needs a C compiler, and CC={named} is no program; nearest: unset CC"
    if named is None and not any(shutil.which(name) for name in ("gcc", "clang")):
        return (
            "Triton needs a C compiler, and neither gcc nor clang is on the PATH; nearest: "
            "install gcc, load its module (launch.setup), or set CC"
        )
    if not (python_headers() / "Python.h").is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return (
            f"Triton needs Python's headers, and {python_headers()} has no Python.h; nearest: "
            f"install python{version}-dev (Debian, Ubuntu) or python{version}-devel (Red Hat)"
        )
    return None


def python_headers() -> Path:
    """The folder in which Triton looks for Python.h."""
    scheme = sysconfig.get_default_scheme()
    # Debian's own scheme names a folder of /usr/local that has no headers.
    return Path(
        sysconfig.get_path("include", "posix_prefix" if scheme == "posix_local" else scheme)
    )
