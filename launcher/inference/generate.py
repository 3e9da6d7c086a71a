"""The ranks' part of text generation: rank 0 submits and writes, all ranks run the model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import torch

from configs.atomic import write_atomic
from configs.errors import InputError
from configs.schema import Run
from configs.settings.asking import GenerateConfig
from corpus.tokenizer.tokenizer import StreamDecoder, Tokenizer
from evals.ranks import DistributedModel, GenerationRequest
from launcher.inference.prompts import prompts_of, require_room
from launcher.inference.session import load_model
from parallel.inference.decoding import Draw
from parallel.runtime.device import Device

_TOKENS_AT_ONCE = 8192  # per batch, which bounds the memory of the KV cache
_BY_STOP, _BY_TEXT, _BY_TOKENS = "stop", "end of text", "tokens"  # what ends a text


def generate_session(run: Run, device: Device, terminal: IO[str]) -> None:
    """Opens the model under the run's layout and writes the generated texts. Collective."""
    with load_model(run, device) as (model, tokenizer):
        ranks = DistributedModel(model, tokenizer, _TOKENS_AT_ONCE)
        if torch.distributed.get_rank() > 0:
            ranks.serve()
            return
        with ranks.asking():
            _Writer(ranks, run.generate, terminal).write()


class _Writer:
    def __init__(
        self, ranks: DistributedModel, settings: GenerateConfig, terminal: IO[str]
    ) -> None:
        self._ranks = ranks
        self._settings = settings
        self._terminal = terminal
        self._tokenizer: Tokenizer = ranks.tokenizer

    def write(self) -> None:
        settings = self._settings
        if settings.interactive:
            for prompt in self._typed():
                self._stream(prompt)
            return
        prompts = prompts_of(settings)
        if settings.file is None and settings.out is None:
            self._stream(prompts[0])
            return
        lines = [
            json.dumps({"prompt": prompt, **self._row(tokens)}, ensure_ascii=False)
            for prompt, tokens in zip(
                prompts, self._ranks.run(self._question(prompts)), strict=True
            )
        ]
        if settings.out is None:
            self._say("\n".join(lines) + "\n")
        else:
            write_atomic(Path(settings.out).expanduser(), "\n".join(lines) + "\n")
            self._say(f"wrote {settings.out}\n")

    def _question(self, prompts: Sequence[str]) -> GenerationRequest:
        settings = self._settings
        return GenerationRequest(
            prompts=[self._tokenizer.encode_prompt(prompt) for prompt in prompts],
            limit=settings.tokens,
            stops=tuple(settings.stop),
            draw=Draw(temperature=settings.temperature, top_p=settings.top_p, seed=settings.seed),
            beams=settings.beams,
            slides=True,
        )

    def _typed(self) -> Iterator[str]:
        """Prompts from input lines, until the input ends."""
        context = self._ranks.model.shape.context
        while True:
            self._say("> ")
            line = sys.stdin.readline()
            if not line:
                self._say("\n")
                return
            if not line.strip():
                continue
            try:
                require_room([line.rstrip("\n")], self._tokenizer, context)
            except InputError as error:
                self._say(f"{error}\n")
                continue
            yield line.rstrip("\n")

    def _stream(self, prompt: str) -> None:
        """Prints tokens as they are generated; beam search prints once it is done."""
        settings, stream = self._settings, _Stream(self._tokenizer, self._settings.stop)
        self._say(prompt)
        heard = None if settings.beams else (lambda token: self._say(stream.push(token)))
        (tokens,) = self._ranks.run(self._question([prompt]), on_token=heard)
        row = self._row(tokens)
        self._say(row["text"] if settings.beams else stream.flush())
        self._say("\n")
        if settings.stop and row["ended"] == _BY_TOKENS and self._terminal.isatty():
            self._say(f"[no stop string within generate.tokens={settings.tokens}]\n")

    def _row(self, tokens: list[int]) -> dict[str, str]:
        """The text, and what ended it."""
        stream = _Stream(self._tokenizer, self._settings.stop)
        text = "".join(map(stream.push, tokens)) + stream.flush()
        ended = _BY_TEXT if tokens and tokens[-1] in self._tokenizer.ends else _BY_TOKENS
        return {"text": text, "ended": _BY_STOP if stream.stopped else ended}

    def _say(self, text: str) -> None:
        self._terminal.write(text)
        self._terminal.flush()


class _Stream:
    """Streams text, holding back what may be the beginning of a stop string."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._decoder = StreamDecoder(tokenizer)
        self._ends = tokenizer.ends
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        return "" if token in self._ends or self.stopped else self._emit(self._decoder.push(token))

    def flush(self) -> str:
        if self.stopped:
            return ""
        return self._emit(self._decoder.flush()) + self._held

    def _emit(self, fresh: str) -> str:
        text = self._held + fresh
        found = [text.find(stop) for stop in self._stops if stop in text]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """The length of the suffix of `text` that is a prefix of `stop`."""
    return next((n for n in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:n])), 0)
