"""Rotary positions (Su et al. 2021): pairs of channels of queries and keys are turned by an angle.

Channel i of the first half and channel i of the second half of those that are rotated form a pair,
as in GPT-NeoX and all of Hugging Face's models. The inverse of a rotation is the rotation by the
negative angle, so the backward pass keeps nothing of its input.

Shape suffixes: T tokens, B samples, N heads, H head width, R rotated channels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch._guards import detect_fake_mode

from configs.settings.network import RopeScaling, RotaryConfig


def frequencies(rotary: RotaryConfig, channels: int) -> Tensor:
    """[channels / 2], float64: radians per token of each pair.

    Raises ValueError for a scaling that lacks its original context.
    """
    pairs = torch.arange(0, channels, 2, dtype=torch.float64)
    plain = rotary.base ** (-pairs / channels)
    if rotary.scaling is RopeScaling.linear:
        return plain / rotary.factor
    if rotary.scaling is RopeScaling.llama3:
        return _llama3(plain, rotary, _original(rotary))
    if rotary.scaling is RopeScaling.yarn:
        return _yarn(plain, rotary, _original(rotary), channels)
    return plain


def attention_factor(rotary: RotaryConfig) -> float:
    """What rotated queries and keys are multiplied by; 1 without YaRN (Peng et al. 2023)."""
    if rotary.scaling is not RopeScaling.yarn:
        return 1.0
    if rotary.attention_factor is not None:
        return rotary.attention_factor
    return 0.1 * math.log(rotary.factor) + 1.0 if rotary.factor > 1 else 1.0


def _original(rotary: RotaryConfig) -> int:
    if rotary.original_context is None:
        raise ValueError(f"{rotary.scaling} needs original_context")
    return rotary.original_context


def _llama3(plain: Tensor, rotary: RotaryConfig, original: int) -> Tensor:
    """Llama 3.1: long wavelengths are divided, short ones stay, those between are blended."""
    low, high = rotary.low_frequency_factor, rotary.high_frequency_factor
    turns = original * plain / (2 * math.pi)  # in the original context
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return plain * (smooth + (1 - smooth) / rotary.factor)


def _yarn(plain: Tensor, rotary: RotaryConfig, original: int, channels: int) -> Tensor:
    """YaRN's ramp between two numbers of turns in the original context (Peng et al. 2023)."""

    def channel(turns: float) -> float:
        return channels * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rotary.base))

    first = max(math.floor(channel(rotary.beta_fast)), 0)
    last = min(math.ceil(channel(rotary.beta_slow)), channels - 1)
    places = torch.arange(channels // 2, dtype=torch.float64)
    stretched = ((places - first) / max(last - first, 0.001)).clamp(0, 1)
    return plain * (1 - stretched) + plain / rotary.factor * stretched


def tables(
    rotary: RotaryConfig, channels: int, tokens: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, R / 2] of all positions, float32."""
    # A dry run has its own, without memory.
    return _tables(rotary, channels, tokens, device, detect_fake_mode(()))


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # what inference keeps, training may use
def _tables(
    rotary: RotaryConfig, channels: int, tokens: int, device: torch.device, _fake_mode: Any
) -> tuple[Tensor, Tensor]:
    # Angles in float32, as in transformers: those of long contexts differ otherwise.
    turned = frequencies(rotary, channels).float()
    angles = torch.outer(torch.arange(tokens, dtype=torch.float32), turned)
    factor = attention_factor(rotary)
    return (angles.cos() * factor).to(device), (angles.sin() * factor).to(device)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        return _rotated(grads[0], cos, -sin), None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first channels of x [..., H] rotated; cosines and sines broadcast over [..., R / 2]."""
    turned: Tensor = _Rotate.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return turned


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    first, second = x[..., :half], x[..., half : 2 * half]
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    torch.mul(first, cos, out=out[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=out[..., half : 2 * half]).addcmul_(first, sin)
    if 2 * half < x.shape[-1]:
        out[..., 2 * half :] = x[..., 2 * half :]
    return out
