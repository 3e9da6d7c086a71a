"""What a user is told of a run that begins with a folder of Hugging Face's, and may not ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from configs.errors import InputError
from configs.override import override
from configs.schema import Run
from configs.settings.network import RopeScaling
from launcher.huggingface.begin import folder_of
from models.shape import ModelShape


def notices(asked: Run, begun: Run) -> tuple[str, ...]:
    """Lines for the user: what is not as the folder, or not of it; none for another run.

    Args:
        asked: the settings before the folder's network took the place of theirs.
    """
    return () if begun is asked else tuple(_notices(asked, begun))


def _notices(asked: Run, begun: Run) -> Iterator[str]:
    setting = override("checkpoint", asked.checkpoint)
    yield (
        f"{setting}: its network, and the recipe (batch, learning rate, tokens) of "
        f"model={asked.model.name}; for another: model=NAME, or optimizer.learning_rate=RATE"
    )
    folder, model = folder_of(begun), begun.model
    assert folder is not None
    there = folder.shape()
    if model.context > there.context and model.rotary == there.rotary:
        yield (
            f"model.context={model.context}: {setting} was trained on {there.context} positions, "
            f"and those beyond are new to it{_stretched(there, model.context)}"
        )


def _stretched(there: ModelShape, context: int) -> str:
    """How to stretch the positions that it knows, unless they are stretched already."""
    if there.rotary.scaling is not RopeScaling.none:
        return ""
    return (
        "; to stretch them: model.rotary.scaling=yarn model.rotary.factor="
        f"{context / there.context:g} model.rotary.original_context={there.context}"
    )


def require_its_tokenizer(run: Run, typed: Sequence[str]) -> None:
    """Raises InputError where another tokenizer is typed for weights that come with their own."""
    folder = folder_of(run)
    if "model.tokenizer" in typed and folder is not None and folder.has_tokenizer():
        raise InputError(
            f"{override('model.tokenizer', run.model.tokenizer)}: {folder.setting} has a tokenizer "
            "of its own, and its weights know no other's tokens; nearest: without model.tokenizer"
        )
