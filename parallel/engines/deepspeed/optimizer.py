"""The optimizer for DeepSpeed: AdamW, torch's or DeepSpeed's own for the CPU, or Muon."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.zero.utils import ZERO_SUPPORTED_OPTIMIZERS

from configs.schema import DeviceName, EngineConfig, OptimizerConfig, OptimizerName, Precision
from parallel.engines.deepspeed.experts import apart
from parallel.engines.muon import Muon
from parallel.engines.named_parameters import NamedParameter
from parallel.engines.newton_schulz import is_muons
from parallel.runtime.device import Device


def build_optimizer(
    parameters: list[NamedParameter],
    optimizer: OptimizerConfig,
    engine: EngineConfig,
    precision: Precision,
    device: Device,
) -> tuple[Any, list[str]]:
    """The optimizer over all parameters, and notices for the user about the choice."""
    if optimizer.name is OptimizerName.adam:
        return _adam(parameters, optimizer, engine, device)
    matrices = [named.tensor for named in parameters if is_muons(named.at)]
    others = [named.tensor for named in parameters if not is_muons(named.at)]
    groups = [
        {"params": matrices, "lr": optimizer.learning_rate, "muon": True},
        {"params": others, "lr": optimizer.learning_rate},
    ]
    if Muon not in ZERO_SUPPORTED_OPTIMIZERS:  # else it warns that nobody has tried it
        ZERO_SUPPORTED_OPTIMIZERS.append(Muon)
    return Muon(groups, optimizer, precision, device.name), []


def _adam(
    parameters: list[NamedParameter],
    optimizer: OptimizerConfig,
    engine: EngineConfig,
    device: Device,
) -> tuple[Any, list[str]]:
    """Weights decay; biases and norms do not, as in the `megatron` engine."""
    decaying = [named.tensor for named in parameters if len(named.at.shape) > 1]
    others = [named.tensor for named in parameters if len(named.at.shape) == 1]
    groups = [
        {"params": decaying, "weight_decay": optimizer.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = apart(groups, parameters)
    settings: dict[str, Any] = {
        "lr": optimizer.learning_rate,
        "betas": (optimizer.beta1, optimizer.beta2),
        "eps": optimizer.epsilon,
    }
    if not engine.offload_optimizer:
        fused = device.name is DeviceName.cuda
        return torch.optim.AdamW(groups, fused=fused, **settings), []
    _find_ninja()
    try:
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        return DeepSpeedCPUAdam(groups, adamw_mode=True, **settings), []
    except Exception as error:  # any compiler error
        cause = error.__cause__ or error  # DeepSpeed's own message lacks the reason
        reason = " ".join(str(cause).split())[:200]
        notice = (
            "engine.offload_optimizer=true: DeepSpeedCPUAdam could not be compiled "
            f"({type(cause).__name__}: {reason}); torch's AdamW takes its place, more slowly"
        )
        return torch.optim.AdamW(groups, **settings), [notice]


def _find_ninja() -> None:
    """pip installs it beside Python, where the build looks only in an activated .venv."""
    if shutil.which("ninja") is None:
        beside = str(Path(sys.executable).parent)
        os.environ["PATH"] = os.pathsep.join([beside, os.environ.get("PATH", "")])
