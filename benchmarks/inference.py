"""Decoding beside Hugging Face's `generate`, and scoring beside lm-eval's `hf` backend, on the same
weights and machine: `python -m benchmarks.inference`.

Untrained weights do as well as trained ones here. Both must give the same tokens and likelihoods.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.paired import Block, measure, show
from configs.schema import Precision
from configs.settings.network import AttentionPattern
from corpus.tokenizer.tokenizer import Tokenizer
from corpus.tokenizer.vocabulary import gpt2
from launcher.command_line.compose import compose_run
from models.huggingface.writing import save
from models.initialise import Part, initial_weight
from models.shape import ModelShape
from parallel.layout import Layout

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="gpt3_nano", help="with dense attention, as GPT-2's")
    parser.add_argument("--prompts", type=int, default=1, help="in a batch of decoding")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=128, help="that are decoded")
    parser.add_argument("--requests", type=int, default=64, help="of scoring")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    model = compose_run([f"model={options.model}"]).model
    shape = replace(
        ModelShape.of(model), attention=AttentionPattern.dense, window=model.context, vocab=50257
    )
    with tempfile.TemporaryDirectory() as scratch:
        _measure(shape, Path(scratch), options)


def _measure(shape: ModelShape, scratch: Path, options: argparse.Namespace) -> None:
    from configs.schema import DeviceName
    from parallel.inference.model import InferenceModel
    from parallel.runtime.device import open_device
    from parallel.runtime.process_groups import process_groups

    device = open_device(DeviceName.cpu, 0, 1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{scratch}/store", rank=0, world_size=1
    )
    weights = {
        name: initial_weight(name, torch.Size(shape.parameter(name).shape), Part(), shape, SEED)
        for name in _names(shape)
    }
    tokenizer = scratch / "tokenizer.json"
    tokenizer.write_text(gpt2(shape.vocab).make(()), encoding="utf-8")
    theirs = _theirs(weights, shape)
    with process_groups(Layout(), SEED):
        ours = InferenceModel(shape, Layout(), precision=Precision.float32, device=device)
        ours.take(weights)
        rows = {
            f"decoding {options.tokens} tokens after {options.prompts} x {options.prompt_tokens}": (
                _decoding(ours, theirs, shape, options)
            ),
            f"scoring {options.requests} continuations": (
                _scoring(ours, theirs, Tokenizer.load(tokenizer), scratch, options)
            ),
        }
        title = f"{options.model}, dense attention, {shape.parameters / 1e6:,.0f}M parameters"
        for what, (we, they) in rows.items():
            blocks = {"Hugging Face": _block(they), "phalanx": _block(we)}
            show(measure(blocks, rounds=options.rounds, steps=1), f"{what}: {title}")


def _names(shape: ModelShape) -> list[str]:
    from models.decoding.decoder import names_of

    return names_of(range(shape.layers), shape)


def _theirs(weights: dict[str, torch.Tensor], shape: ModelShape) -> Any:
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        save(weights, shape, Path(folder))
        return AutoModelForCausalLM.from_pretrained(
            folder, bos_token_id=shape.vocab - 1, eos_token_id=shape.vocab - 1
        ).eval()


def _decoding(
    ours: Any, theirs: Any, shape: ModelShape, options: argparse.Namespace
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    from parallel.inference.decoding import GREEDY, generate

    generator = torch.Generator().manual_seed(SEED)
    size = (options.prompts, options.prompt_tokens)
    prompts = torch.randint(0, shape.vocab - 1, size, generator=generator)
    listed = prompts.tolist()

    def we() -> Any:
        return generate(ours, listed, options.tokens, GREEDY, lambda _row, _tokens: False)

    @torch.inference_mode()
    def they() -> Any:
        found = theirs.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=False,
            use_cache=True,
            min_new_tokens=options.tokens,
            max_new_tokens=options.tokens,
            pad_token_id=shape.vocab - 1,
        )
        return found[:, options.prompt_tokens :].tolist()

    assert we() == they(), "the tokens differ"
    return we, they


def _scoring(
    ours: Any, theirs: Any, tokenizer: Tokenizer, scratch: Path, options: argparse.Namespace
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedTokenizerFast

    from evals.harness import HarnessModel
    from evals.language_model import LanguageModel
    from evals.ranks import DistributedModel

    batch = 16
    fast = PreTrainedTokenizerFast(tokenizer_file=str(scratch / "tokenizer.json"))
    fast.eos_token = fast.pad_token = "<|endoftext|>"
    harness = HFLM(pretrained=theirs, tokenizer=fast, batch_size=batch, device="cpu")
    generator = torch.Generator().manual_seed(SEED)
    context = ours.shape.context
    requests = []
    for number in range(options.requests):
        length = int(torch.randint(context // 4, context - 16, (1,), generator=generator))
        ids = torch.randint(300, 20_000, (length,), generator=generator).tolist()
        text = (tokenizer.decode(ids), " and so on to the end.")
        requests.append(Instance("loglikelihood", {}, text, number))

    class Local(DistributedModel):
        """One rank has nobody to tell."""

        def _tell(self, question: Any) -> Any:
            return question

    model = HarnessModel(LanguageModel(Local(ours, tokenizer, batch * context)))

    def we() -> Any:
        return model.loglikelihood(requests, disable_tqdm=True)

    def they() -> Any:
        return harness.loglikelihood(requests, disable_tqdm=True)

    for (value, greedy), (other, other_greedy) in zip(we(), they(), strict=True):
        assert abs(value - other) < 1e-2, (value, other)
        assert greedy == other_greedy
    return we, they


def _block(action: Callable[[], Any]) -> Block:
    def run(steps: int) -> None:
        for _ in range(steps):
            action()

    return run


if __name__ == "__main__":
    main()
