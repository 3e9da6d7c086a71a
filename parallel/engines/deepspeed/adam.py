"""The AdamW for DeepSpeed: torch's, or DeepSpeed's CPU implementation if offloaded."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from configs.schema import DeviceName, EngineConfig, OptimizerConfig
from parallel.engines.named_parameters import NamedParameter
from parallel.runtime.device import Device


def build_adam(
    parameters: list[NamedParameter],
    optimizer: OptimizerConfig,
    engine: EngineConfig,
    device: Device,
) -> tuple[Any, list[str]]:
    """AdamW over all parameters, and notices for the user about the choice.

    Weights decay; biases and norms do not, as in the `megatron` engine.
    """
    decaying = [named.tensor for named in parameters if len(named.at.shape) > 1]
    others = [named.tensor for named in parameters if len(named.at.shape) == 1]
    groups = [
        {"params": decaying, "weight_decay": optimizer.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
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
