"""Optional packages with GPU kernels, which Megatron-core imports wherever it finds them.

It expects an ImportError where one is missing. One that was built for another torch or CUDA raises
something else, which would end the rank; on a CPU their optimizers and norms do not run at all.
Hidden before Megatron-core is imported, its own code takes their place.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache

from packaging.specifiers import SpecifierSet

TRANSFORMER_ENGINE = SpecifierSet(">=2.9,<2.12", prereleases=True)
"""The versions that megatron-core 0.16 declares; read against its sources."""
MISSING = "not installed"
_PACKAGES = ("transformer_engine", "apex", "amp_C", "fused_weight_gradient_mlp_cuda")


def hide_all() -> None:
    """Hides them from imports, for ranks on CPU; those that were imported before stay."""
    for name in _PACKAGES:
        if name not in sys.modules:
            _hide(name)


def hide_unusable(*, transformer_engine: bool) -> None:
    """Hides those that cannot be imported, and Transformer Engine where it is not wanted."""
    for name in _PACKAGES:
        if import_fault(name) is not None:
            _hide(name)
    if not transformer_engine or transformer_engine_fault() is not None:
        _hide("transformer_engine")


def _hide(package: str) -> None:
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's way to refuse an import


@cache
def import_fault(name: str) -> str | None:
    """Why a package cannot be imported; None if it can."""
    try:
        if importlib.util.find_spec(name) is None:
            return MISSING
        importlib.import_module(name)
    except Exception as error:  # a missing library, symbols of another torch, a failed assert
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


@cache
def transformer_engine_fault() -> str | None:
    """Why Transformer Engine's layers cannot be used in this process; None if they can."""
    fault = import_fault("transformer_engine") or import_fault("transformer_engine.pytorch")
    if fault is not None:
        return fault
    version = str(sys.modules["transformer_engine"].__version__)
    if version not in TRANSFORMER_ENGINE:
        return f"version {version} is not in {TRANSFORMER_ENGINE}"
    return None
