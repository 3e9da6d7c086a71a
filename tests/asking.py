"""A small model that is asked, on ranks of the pool: what the tests of evaluations share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.schema import DeviceName, Precision
from configs.settings.network import AttentionPattern
from corpus.tokenizer.tokenizer import Tokenizer
from corpus.tokenizer.vocabulary import choose
from launcher.command_line.compose import compose_run
from models.decoding.decoder import names_of
from models.initialise import Part, initial_weight
from models.shape import ModelShape
from parallel.layout import Layout

DENSE = ModelShape(
    layers=4,
    hidden=32,
    heads=4,
    context=96,
    vocab=300,
    attention=AttentionPattern.dense,
    window=96,
)
TEXT = "What is a question? An answer is what is asked for, and no more than that. " * 20


def large_weights(shape: ModelShape) -> dict[str, Tensor]:
    """As large as those of a trained model, so that logits differ by more than rounding."""

    def factor(name: str) -> int:
        return 8 if name.endswith("weight") and "norm" not in name else 1

    return {
        name: initial_weight(name, torch.Size(shape.parameter(name).shape), Part(), shape, 0)
        * factor(name)
        for name in names_of(range(shape.layers), shape)
    }


def tokenizer_json() -> str:
    model = compose_run([f"model.vocab={DENSE.vocab}", "model.tokenizer=trained"]).model
    return choose(model).make([TEXT])


def tokenizer() -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(tokenizer_json(), encoding="utf-8")
        return Tokenizer.load(path)


def ask(layout: Layout, questions: Callable[..., Any], *arguments: Any) -> Any:
    """A job: rank 0's answer to questions(LanguageModel, *arguments); None on other ranks."""
    from evals.language_model import LanguageModel
    from evals.ranks import DistributedModel
    from parallel.inference.model import InferenceModel
    from parallel.runtime.device import Device
    from parallel.runtime.process_groups import process_groups

    device = Device(DeviceName.cpu, torch.device("cpu"), "gloo")
    with process_groups(layout, 0):
        model = InferenceModel(DENSE, layout, precision=Precision.float32, device=device)
        model.take(large_weights(DENSE))
        ranks = DistributedModel(model, tokenizer(), 2000, layout.data)
        if torch.distributed.get_rank() > 0:
            ranks.serve()
            return None
        with ranks.asking():
            return questions(LanguageModel(ranks), *arguments)
