"""One rank's part of generating text: every rank draws the same tokens from the same generator."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from configs.errors import InputError
from configs.schema import GenerateConfig, Run
from corpus.tokenizer import StreamDecoder, Tokenizer
from launcher.build import running_engine
from parallel import checkpoint_files
from parallel.checkpoint import CheckpointStore
from parallel.devices import Device
from parallel.engine import Engine


def generate_session(run: Run, device: Device, terminal: IO[str]) -> None:
    """Loads the checkpoint under the run's layout and writes prompt and text to the terminal."""
    from megatron.core import parallel_state

    assert run.checkpoint is not None
    checkpoint = Path(run.checkpoint)
    tokenizer = Tokenizer.load(checkpoint / checkpoint_files.TOKENIZER)
    with running_engine(run, device) as engine:
        group = parallel_state.get_tensor_model_parallel_group()
        CheckpointStore(checkpoint.parent, group, None).load_weights(engine, checkpoint)
        speaks = torch.distributed.get_rank() == 0
        out = terminal if speaks else None
        generate_text(engine, tokenizer, run.generate, run.model.context, device, out)


def generate_text(
    engine: Engine,
    tokenizer: Tokenizer,
    settings: GenerateConfig,
    context: int,
    device: Device,
    terminal: IO[str] | None,
) -> list[int]:
    """The ids of the prompt and of what follows it; ends early at end-of-text."""
    tokens = tokenizer.encode(settings.prompt) or [tokenizer.end_of_text]
    if max(tokens) >= tokenizer.size or len(tokens) > context:
        raise InputError(f"generate.prompt: {len(tokens)} tokens, model.context is {context}")
    generator = torch.Generator().manual_seed(settings.seed)
    stream = StreamDecoder(tokenizer)
    _say(terminal, settings.prompt)
    for _ in range(settings.tokens):
        seen = torch.tensor([tokens[-context:]], device=device.torch_device)
        logits = engine.next_token_logits(seen)[0]
        token = sample(logits.cpu(), settings.temperature, settings.top_p, generator)
        tokens.append(token)
        if token == tokenizer.end_of_text:
            break
        _say(terminal, stream.push(token))
    _say(terminal, stream.flush() + "\n")
    return tokens


def sample(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """One token of logits [vocabulary]: the likeliest at temperature 0, else from the nucleus.

    The nucleus is the fewest likeliest tokens that together have probability top_p (Holtzman et
    al. 2019).
    """
    if temperature == 0:
        return int(logits.argmax())
    probabilities, order = torch.softmax(logits.double() / temperature, -1).sort(descending=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities[before >= top_p] = 0.0
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


def _say(terminal: IO[str] | None, text: str) -> None:
    if terminal is not None:
        terminal.write(text)
        terminal.flush()
