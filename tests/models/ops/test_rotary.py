"""Rotary positions against complex numbers, and their scalings against formulas of one pair."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from configs.settings.network import RopeScaling, RotaryConfig
from models.ops.rotary import attention_factor, frequencies, rotate, tables

CPU = torch.device("cpu")
PLAIN = RotaryConfig(base=500.0)


def given(tokens: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    return torch.randn(tokens, 2, 3, width, generator=generator).to(dtype)


def turned(x: Tensor, rotary: RotaryConfig, channels: int) -> Tensor:
    """The product with exp(i angle), channel j being the real part of number j."""
    half = channels // 2
    angles = torch.outer(torch.arange(len(x)).double(), frequencies(rotary, channels))
    numbers = torch.complex(x[..., :half].double(), x[..., half:channels].double())
    product = numbers * torch.polar(torch.ones_like(angles), angles)[:, None, None]
    return torch.cat([product.real, product.imag, x[..., channels:].double()], -1)


def rotated(x: Tensor, rotary: RotaryConfig, channels: int) -> Tensor:
    cos, sin = (table[:, None, None] for table in tables(rotary, channels, len(x), CPU))
    return rotate(x, cos, sin)


@pytest.mark.parametrize(("width", "channels"), [(16, 16), (16, 4), (20, 10), (6, 2)])
def test_it_is_a_product_of_complex_numbers(width: int, channels: int) -> None:
    x = given(40, width)
    expected = turned(x, PLAIN, channels)
    torch.testing.assert_close(rotated(x, PLAIN, channels), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [8, 4])
def test_its_gradient_turns_back(channels: int) -> None:
    x = given(3, 8).requires_grad_()
    assert torch.autograd.gradcheck(lambda it: rotated(it, PLAIN, channels), x, atol=1e-6)
    # As a layer gives it: heads apart in memory.
    apart = given(3, 8).transpose(0, 2).contiguous().transpose(0, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda it: rotated(it, PLAIN, channels), apart, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_rounds_a_few_times(dtype: torch.dtype) -> None:
    x = given(64, 16, dtype)
    ours, expected = rotated(x, PLAIN, 16), turned(x, PLAIN, 16)
    assert ours.dtype is dtype
    assert (ours.double() - expected).abs().max() <= 2 * torch.finfo(dtype).eps * x.abs().max()


def test_scores_depend_on_the_distance_alone() -> None:
    query, key = (given(1, 16)[:, :1, :1].expand(50, 1, 1, 16) for _ in range(2))
    query, key = (rotated(it, PLAIN, 16)[:, 0, 0] for it in (query, key))
    scores = query @ key.t()
    for distance in (0, 1, 17):
        along = scores.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=1e-4)


def test_angles_of_long_contexts_are_as_exact_as_bf16() -> None:
    rotary, tokens = RotaryConfig(base=5e5), 1 << 17
    cos, _ = tables(rotary, 128, tokens, CPU)
    exact = torch.outer(torch.arange(tokens).double(), frequencies(rotary, 128)).cos()
    error = (cos.double() - exact).abs()
    assert error.max() < 2 * torch.finfo(torch.bfloat16).eps
    assert error.mean() < 2e-4


def test_linear_divides_positions() -> None:
    rotary = RotaryConfig(scaling=RopeScaling.linear, factor=4.0)
    cos, sin = tables(rotary, 16, 64, CPU)
    plain_cos, plain_sin = tables(RotaryConfig(), 16, 16, CPU)
    torch.testing.assert_close(cos[::4], plain_cos)
    torch.testing.assert_close(sin[::4], plain_sin)


def test_llama3_is_a_function_of_the_wavelength() -> None:
    rotary = RotaryConfig(
        base=5e5,
        scaling=RopeScaling.llama3,
        factor=8.0,
        original_context=8192,
        low_frequency_factor=1.0,
        high_frequency_factor=4.0,
    )
    kinds = set()
    for pair, ours in enumerate(frequencies(rotary, 128).tolist()):
        plain = 5e5 ** (-2 * pair / 128)
        wavelength = 2 * math.pi / plain
        if wavelength < 8192 / 4:
            kind, expected = "short", plain
        elif wavelength > 8192 / 1:
            kind, expected = "long", plain / 8
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            kind, expected = "between", (1 - smooth) * plain / 8 + smooth * plain
        kinds.add(kind)
        assert ours == pytest.approx(expected, rel=1e-12)
    assert kinds == {"short", "between", "long"}


def test_yarn_is_a_ramp_over_pairs() -> None:
    rotary = RotaryConfig(scaling=RopeScaling.yarn, factor=16.0, original_context=4096)

    def turns(pair: float) -> float:
        return 4096 * 10000.0 ** (-2 * pair / 128) / (2 * math.pi)

    # The first pair that turns less than beta_fast times, and the last that turns beta_slow times.
    first = next(pair for pair in range(64) if turns(pair + 1) < 32)
    last = next(pair for pair in range(64) if turns(pair) <= 1)
    for pair, ours in enumerate(frequencies(rotary, 128).tolist()):
        share = min(max((pair - first) / (last - first), 0.0), 1.0)
        plain = 10000.0 ** (-2 * pair / 128)
        assert ours == pytest.approx(plain * (share / 16 + 1 - share), rel=1e-12)
    assert attention_factor(rotary) == pytest.approx(1 + math.log(16) / 10)
    cos, sin = tables(rotary, 128, 7, CPU)
    torch.testing.assert_close(cos.square() + sin.square(), torch.full((7, 64), 1.2772589**2))


@pytest.mark.parametrize(
    "rotary",
    [
        RotaryConfig(base=1e6),
        RotaryConfig(scaling=RopeScaling.linear, factor=3.0),
        RotaryConfig(base=5e5, scaling=RopeScaling.llama3, factor=8.0, original_context=64),
        RotaryConfig(scaling=RopeScaling.yarn, factor=4.0, original_context=32),
        RotaryConfig(
            scaling=RopeScaling.yarn,
            factor=4.0,
            original_context=4096,
            beta_fast=24.0,
            attention_factor=1.5,
        ),
    ],
    ids=lambda rotary: rotary.scaling,
)
def test_frequencies_are_those_of_transformers(rotary: RotaryConfig) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    kinds = {RopeScaling.none: "default"}
    parameters = {
        "rope_type": kinds.get(rotary.scaling, str(rotary.scaling)),
        "rope_theta": rotary.base,
        "factor": rotary.factor,
    }
    if rotary.scaling is RopeScaling.llama3:
        parameters |= {
            "low_freq_factor": rotary.low_frequency_factor,
            "high_freq_factor": rotary.high_frequency_factor,
        }
    if rotary.scaling is RopeScaling.yarn:
        parameters |= {"beta_fast": rotary.beta_fast, "beta_slow": rotary.beta_slow}
        if rotary.attention_factor is not None:
            parameters["attention_factor"] = rotary.attention_factor
    if rotary.original_context is not None:
        parameters["original_max_position_embeddings"] = rotary.original_context
    config = transformers.LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        max_position_embeddings=int((rotary.original_context or 64) * rotary.factor),
        rope_parameters=parameters,
    )
    theirs = LlamaRotaryEmbedding(config)
    expected = theirs.inv_freq.double()
    torch.testing.assert_close(frequencies(rotary, 32), expected, rtol=1e-6, atol=0)
    assert attention_factor(rotary) == pytest.approx(theirs.attention_scaling)


def test_training_takes_the_tables_of_inference_and_no_dry_runs() -> None:
    tables_of = (RotaryConfig(base=77.0), 8, 5, CPU)
    x = given(5, 8).requires_grad_()
    with torch.inference_mode():
        inferred = tables(*tables_of)
    rotated(x, PLAIN, 8).sum().backward()  # type: ignore[no-untyped-call]
    assert tables(*tables_of)[0] is inferred[0]
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert tables(*tables_of)[0] is not inferred[0]
    rotate(x, *(table[:, None, None] for table in tables(*tables_of))).sum().backward()  # type: ignore[no-untyped-call]
