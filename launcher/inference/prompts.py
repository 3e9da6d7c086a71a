"""Builds prompts from a setting, a file, or an article's title. Imports no torch."""

from __future__ import annotations

from typing import Any

from configs.errors import InputError
from configs.override import override
from configs.settings.asking import GenerateConfig
from corpus.sources.jsonl import json_rows
from corpus.sources.sources import expanded
from corpus.tokenizer.tokenizer import Tokenizer

ARTICLE = "Title: {title}\nSubtitle: {subtitle}\nArticle:"
"""Brown et al. 2020, figure 3.14; three earlier articles precede it."""
ARTICLES_APART = "\n\n"


def prompts_of(settings: GenerateConfig) -> list[str]:
    """Raises InputError if a file cannot be read, holds no prompt or lacks a field."""
    if settings.title is not None:
        return [_article_prompt(settings)]
    if settings.file is None:
        return [settings.prompt]
    if not settings.file.endswith(".jsonl"):
        lines = _read(settings.file, "generate.file").splitlines()
        prompts = [line for line in lines if line.strip()]
        if not prompts:
            raise InputError(f"{override('generate.file', settings.file)}: holds no prompt")
        return prompts
    return [row["prompt"] for row in _rows(settings.file, "generate.file", ("prompt",))]


def require_room(prompts: list[str], tokenizer: Tokenizer, context: int) -> None:
    """Raises InputError for a prompt that is empty or exceeds the model's context."""
    for number, prompt in enumerate(prompts):
        which = f"prompt {number + 1}" if len(prompts) > 1 else f"generate.prompt={prompt[:30]!r}"
        if not prompt:
            raise InputError(f"{which}: is empty; nearest: generate.prompt='The '")
        tokens = len(tokenizer.encode_prompt(prompt))
        if tokens > context:
            raise InputError(
                f"{which}: has {tokens:,} tokens, the model's context is {context:,}; nearest: "
                f"its last {context:,}"
            )


def _article_prompt(settings: GenerateConfig) -> str:
    before = []
    if settings.articles is not None:
        fields = ("title", "subtitle", "article")
        for row in _rows(settings.articles, "generate.articles", fields):
            head = ARTICLE.format(title=row["title"], subtitle=row["subtitle"])
            before.append(f"{head} {row['article']}")
    asked = ARTICLE.format(title=settings.title, subtitle=settings.subtitle)
    return ARTICLES_APART.join([*before, asked])


def _rows(path: str, setting: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    rows = []
    for where, row in json_rows(expanded(setting, path), setting):
        if missing := [field for field in fields if not isinstance(row.get(field), str)]:
            raise InputError(f"{where}: has no text as {', '.join(map(repr, missing))}")
        rows.append(row)
    return rows


def _read(path: str, setting: str) -> str:
    try:
        return expanded(setting, path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{override(setting, path)}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{override(setting, path)}: is no UTF-8 text ({error.reason})") from None
