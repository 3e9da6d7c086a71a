"""Packages with GPU kernels, in processes of their own that find made ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import ROOT

FINE = "__version__ = '2.11.0'\n"
BROKEN = "raise OSError('libcudnn.so.9: cannot open shared object file')\n"
OLD = "__version__ = '1.3.0'\n"


def python(code: str, packages: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{packages}:{ROOT}", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def made(folder: Path, init: str, pytorch: str = "") -> Path:
    """A Transformer Engine, whose optimizers would fail on a CPU, and an Apex."""
    for package, text in (("transformer_engine", init), ("transformer_engine/pytorch", pytorch)):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(text)
    (folder / "transformer_engine/pytorch/optimizers.py").write_text(
        "class FusedAdam: ...\nclass FusedSGD: ...\n"
        "multi_tensor_applier = multi_tensor_scale = multi_tensor_l2norm = None\n"
    )
    (folder / "apex").mkdir()
    (folder / "apex/__init__.py").write_text("")
    return folder


def test_a_cpu_takes_torchs_adam_and_norm_whatever_is_installed(tmp_path: Path) -> None:
    said = python(
        "from parallel.runtime import cpu_bridge; cpu_bridge.install()\n"
        "import megatron.core.optimizer as m\n"
        "from megatron.core.optimizer import clip_grads, distrib_optimizer\n"
        "for it in (m.Adam, distrib_optimizer.Adam, clip_grads.l2_norm_impl):\n"
        "    print(it.__module__)",
        made(tmp_path, FINE),
    )
    adam, sharded, norm = said.split()
    assert adam.startswith("torch.optim")
    assert sharded.startswith("torch.optim")
    assert "cpu_bridge" in norm


@pytest.mark.parametrize(
    ("init", "pytorch", "reason"),
    [
        (FINE, "", "None"),
        (BROKEN, "", "OSError: libcudnn.so.9: cannot open shared object file"),
        (FINE, BROKEN, "OSError: libcudnn.so.9: cannot open shared object file"),
        (OLD, "", "version 1.3.0 is not in "),
    ],
)
def test_transformer_engine_is_taken_only_if_it_imports_and_is_of_a_version_that_was_read(
    tmp_path: Path, init: str, pytorch: str, reason: str
) -> None:
    said = python(
        "from parallel.runtime import gpu_packages as g\n"
        "print(g.transformer_engine_fault())\n"
        "g.hide_unusable(transformer_engine=True)\n"
        "try:\n import transformer_engine.pytorch; print('there')\n"
        "except ImportError: print('hidden')",
        made(tmp_path, init, pytorch),
    )
    found, there = said.splitlines()
    assert found.startswith(reason)
    assert there == ("there" if reason == "None" else "hidden")


def test_one_that_does_not_import_leaves_megatron_core_whole(tmp_path: Path) -> None:
    said = python(
        "from parallel.runtime import gpu_packages as g\n"
        "g.hide_unusable(transformer_engine=True)\n"
        "from megatron.core.models.gpt import gpt_layer_specs; print(gpt_layer_specs.HAVE_TE)",
        made(tmp_path, FINE, BROKEN),
    )
    assert said.splitlines()[-1] == "False"


def test_local_layers_hide_a_transformer_engine_that_works(tmp_path: Path) -> None:
    said = python(
        "from parallel.runtime import gpu_packages as g\n"
        "g.transformer_engine_fault(); g.hide_unusable(transformer_engine=False)\n"
        "try:\n from transformer_engine.pytorch.optimizers import FusedAdam; print('there')\n"
        "except ImportError: print('hidden')",
        made(tmp_path, FINE),
    )
    assert said == "hidden"


@pytest.mark.parametrize(
    ("settings", "precision", "taken"),
    [
        ("", "bf16", "True"),
        ("", "float32", "False"),  # its matmuls would round to TF32
        ("LayerKind.local", "bf16", "False"),
        ("LayerKind.transformer_engine", "bf16", "True"),
    ],
)
def test_where_its_layers_are_taken(
    tmp_path: Path, settings: str, precision: str, taken: str
) -> None:
    said = python(
        "from configs.settings.cuda import CudaConfig, LayerKind\n"
        "from configs.schema import DeviceName, Precision\n"
        "from parallel.runtime import gpu_packages as g\n"
        "g.transformer_engine_fault.cache_clear(); g.transformer_engine_fault = lambda: None\n"
        "from parallel.engines.megatron.config import uses_transformer_engine\n"
        f"cuda = CudaConfig({f'layers={settings}' if settings else ''})\n"
        f"print(uses_transformer_engine(DeviceName.cuda, cuda, Precision.{precision}))",
        tmp_path,
    )
    assert said.splitlines()[-1] == taken


@pytest.mark.parametrize(
    ("settings", "precision", "words"),
    [
        ("layers=LayerKind.transformer_engine", "bf16", "nearest: cuda.layers=auto"),
        ("", "fp8", "precision=fp8: Transformer Engine: not installed; nearest: precision=bf16"),
    ],
)
def test_what_requires_it_is_refused_with_the_reason(
    tmp_path: Path, settings: str, precision: str, words: str
) -> None:
    said = python(
        "from configs.settings.cuda import CudaConfig, LayerKind\n"
        "from configs.errors import InputError\n"
        "from configs.schema import DeviceName, Precision\n"
        "from parallel.engines.megatron.config import uses_transformer_engine\n"
        "try:\n"
        f"    uses_transformer_engine(DeviceName.cuda, CudaConfig({settings}), "
        f"Precision.{precision})\n"
        "except InputError as error: print(error)",
        tmp_path,
    )
    assert words in said.splitlines()[-1]
    assert "not installed" in said
