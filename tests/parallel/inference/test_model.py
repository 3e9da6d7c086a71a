"""A model that is only asked says, under every layout, what Megatron-core's own forward says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from configs.schema import DeviceName, Precision
from models.shape import ModelShape
from parallel.layout import Layout
from tests import families, routing, training
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool
from tests.training import SHAPE

ONE, TWO = Layout(), Layout(tensor=2, pipeline=2)
LAYOUTS = [ONE, Layout(tensor=2), Layout(pipeline=2), TWO, Layout(tensor=4)]
CASES = [
    *((SHAPE, layout) for layout in LAYOUTS),
    *((shape, TWO) for shape in families.NAMES if shape != families.THREE),
    (families.THREE, Layout(tensor=3)),
    (families.EVERYTHING, ONE),
    *((shape, layout) for shape in routing.NAMES for layout in (ONE, TWO)),
]
BATCH = training.global_batch(5)  # of the same vocabulary and context for all
TOKENS = BATCH[:3, : SHAPE.context]
PROMPTS = (2, 9, 6)  # tokens of each row, shorter and longer than the window
Reference = tuple[dict[str, Tensor], Tensor, float]


def case_name(value: ModelShape | Layout) -> str:
    return (
        name(value)
        if isinstance(value, Layout)
        else (families.NAMES | routing.NAMES).get(value, "gpt3")
    )


def trained(shape: ModelShape) -> Any:
    """A job: the weights after two steps, so that no bias is zero, Megatron's logits and loss."""
    from models.ops.softcap import capped
    from parallel.engines.base import Batch

    layout = Layout(micro_batch=training.GLOBAL_BATCH)
    with training.engine(layout, shape=shape) as engine:
        training.take_steps(engine, layout, 1, 2)
        (chunk,) = engine.chunks
        positions = torch.arange(shape.context).expand_as(TOKENS)
        with torch.no_grad():
            logits = capped(chunk(TOKENS, positions, None), shape.logit_softcap)
        loss = engine.evaluate(Batch(micro_batches=[BATCH]))
        return training.weights_here(engine), logits[..., : shape.vocab].float(), loss


class References:
    """A family is trained when it is first asked for."""

    def __init__(self, ranks: RankPool) -> None:
        self._ranks = ranks
        self._known: dict[ModelShape, Reference] = {}

    def __getitem__(self, shape: ModelShape) -> Reference:
        if shape not in self._known:
            weights, logits, loss = self._ranks.run(1, trained, shape)[0]
            whole = {name: tensor for name, _, tensor in weights}
            self._known[shape] = whole, logits, loss
        return self._known[shape]


@pytest.fixture(scope="module")
def references(ranks: RankPool) -> References:
    return References(ranks)


def asked(shape: ModelShape, layout: Layout, weights: dict[str, Tensor]) -> Any:
    """A job: logits token by token, rows of their own lengths, and scores, which need no cache."""
    from parallel.inference.model import InferenceModel, Rows
    from parallel.runtime.device import Device
    from parallel.runtime.process_groups import process_groups

    device = Device(DeviceName.cpu, torch.device("cpu"), "gloo")
    with process_groups(layout, 0):
        model = InferenceModel(shape, layout, precision=Precision.float32, device=device)
        model.take(weights)
        tokens = TOKENS.tolist()
        prompts = [row[:length] for row, length in zip(tokens, PROMPTS, strict=True)]
        rows = Rows(model, prompts, shape.context)
        places = [length - 1 for length in PROMPTS]
        order = list(range(len(tokens)))
        found: dict[tuple[int, int], Tensor] = {}
        while True:
            logits = rows.choose(lambda logits: logits.double(), (len(order), shape.vocab))
            for row, place, said in zip(order, places, logits, strict=True):
                found[row, place] = said.float()
            # Rows that are full are left behind, and the others change places.
            kept = [n for n in reversed(range(len(order))) if places[n] + 1 < shape.context]
            if not kept:
                break
            rows.pick(kept)
            order, places = [order[n] for n in kept], [places[n] + 1 for n in kept]
            rows.extend([tokens[row][place] for row, place in zip(order, places, strict=True)])
        counts = [3, 1, shape.context - 1]
        every = model.score(BATCH.tolist(), [shape.context] * len(BATCH))
        return found, model.score(tokens, counts), model.score([tokens[0][:2]], [1]), every


@pytest.mark.parametrize(("shape", "layout"), CASES, ids=case_name)
def test_logits_and_likelihoods_are_megatrons(
    ranks: RankPool, references: References, shape: ModelShape, layout: Layout
) -> None:
    weights, logits, loss = references[shape]
    for found, scores, short, every in ranks.run(layout.world_size, asked, shape, layout, weights):
        assert len(found) == sum(SHAPE.context - length + 1 for length in PROMPTS)
        for (row, place), said in found.items():
            torch.testing.assert_close(said, logits[row, place], rtol=1e-4, atol=1e-5)
        likelihoods = logits.log_softmax(-1)[:, :-1].gather(2, TOKENS[:, 1:, None])[..., 0]
        likeliest = logits[:, :-1].argmax(-1) == TOKENS[:, 1:]
        for row, count in enumerate([3, 1, SHAPE.context - 1]):
            expected = float(likelihoods[row, -count:].double().sum())
            assert float(scores[row, 0]) == pytest.approx(expected, abs=1e-4)
            assert bool(scores[row, 1]) == bool(likeliest[row, -count:].all())
        assert float(short[0, 0]) == pytest.approx(float(likelihoods[0, 0]), abs=1e-4)
        assert -float(every[:, 0].mean()) / shape.context == pytest.approx(loss, rel=1e-5)


def test_a_banded_layer_keeps_its_window_and_no_more() -> None:
    from models.decoding.kv_cache import BandedCache

    cache = BandedCache(SHAPE.context, SHAPE.window)
    keys = torch.randn(2, 1, SHAPE.context, 4)
    cache.fill(torch.tensor([SHAPE.context, 3]), keys, keys, keys)
    assert cache._keys_BNSD is not None
    assert cache._keys_BNSD.shape == (2, 1, SHAPE.window, 4)


def test_no_layer_waits_for_the_device() -> None:
    """A layer that reads a tensor's value on the host waits for all that the device has to do."""
    from models.decoding.decoder import Decoder, names_of
    from models.decoding.kv_cache import NextTokens

    weights = {
        name: torch.randn(SHAPE.parameter(name).shape)
        for name in names_of(range(SHAPE.layers), SHAPE)
    }
    decoder = Decoder(SHAPE, range(SHAPE.layers), weights)
    caches = decoder.caches(SHAPE.context)
    lengths = [SHAPE.window + 3, 2]
    hidden = torch.randn(2, max(lengths), SHAPE.hidden)
    with _Reads() as reads:  # type: ignore[no-untyped-call]
        decoder.begin(hidden, torch.tensor(lengths), caches)
        for step in range(3):
            at = NextTokens([length + step for length in lengths], torch.device("cpu"))
            decoder.extend(hidden[:, :1], at, caches)
    assert reads.count == 0


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the values that are read on the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))
