"""`phalanx generate`: text from a model, under any tensor x pipeline layout.

`run_dir=DIR` uses the run's newest checkpoint and its layout; `checkpoint=DIR` any checkpoint, or
a folder in Hugging Face's GPT-2 format.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from configs.errors import InputError
from configs.schema import Run
from corpus.tokenizer.tokenizer import Tokenizer
from launcher.command_line.compose import hydra_app
from launcher.inference.prompts import prompts_of, require_room
from launcher.inference.session import resolve_inference, run_inference, source_of


def generate(run: Run, overrides: list[str]) -> None:
    """Checks the settings and prompts, then has the ranks write the text."""
    settings = run.generate
    source = source_of(run, "generate")
    plan = resolve_inference(run, source, "generate", data=False, given=overrides)
    if settings.beams:
        settings = replace(settings, temperature=0.0)
    if settings.out is not None and not Path(settings.out).expanduser().parent.is_dir():
        raise InputError(f"generate.out={settings.out}: its folder is not there")
    if not settings.interactive:
        with source.tokenizer() as path:
            require_room(prompts_of(settings), Tokenizer.load(path), source.shape.context)
    with run_inference(replace(plan, run=replace(plan.run, generate=settings)), "generate"):
        pass


app = hydra_app(generate)
