"""Converts text to token ids and back, for any vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from configs.errors import InputError
from configs.reading import read_small
from corpus.tokenizer.special_tokens import SETTING, SpecialTokens, read_roles

UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Tokenizer:
    """A tokenizer.json with an end-of-text token, and maybe one that begins a text.

    Encoding has no special tokens: a document that contains "<|endoftext|>" does not end there.
    """

    def __init__(
        self, inner: tokenizers.Tokenizer, *, name: str, special: SpecialTokens | None = None
    ) -> None:
        special = special or read_roles(inner, {}, name)
        inner.encode_special_tokens = True
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        self._name = name
        self.special = special
        found = {each: inner.token_to_id(each) for each in special.names}
        ids = {each: number for each, number in found.items() if number is not None}
        self.end_of_text = ids[special.end]
        """The token after each document."""
        self.begin = [ids[special.begin]] if special.begin else []
        """What comes before each document and each prompt: one token or none."""
        self.ends = frozenset(ids[each] for each in (special.end, *special.stops))
        """The tokens that end a generated text."""
        self.size = size_of(inner)
        """One more than the largest token id."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_json, (self.to_json(), self._name, self.special)

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Raises InputError if there is no such file, or it is not a tokenizer.json."""
        text, inner = read_json(path)
        return cls(inner, name=str(path), special=read_roles(inner, json.loads(text), str(path)))

    def to_json(self) -> str:
        """The tokenizer.json, without the roles of its tokens, which no other program reads."""
        return self._inner.to_str()

    def id_of(self, token: str) -> int | None:
        """The id of a token by name; None if there is none."""
        found: int | None = self._inner.token_to_id(token)
        return found

    def encode(self, text: str) -> list[int]:
        """The ids of the text, without end-of-text."""
        return self._inner.encode(text, add_special_tokens=False).ids

    def encode_prompt(self, text: str) -> list[int]:
        """`encode` after the token that begins a text, if there is one."""
        return [*self.begin, *self.encode(text)]

    def merged(self, word: str) -> list[str]:
        """The tokens that the model splits a word into, both in its vocabulary's characters."""
        return [token.value for token in self._inner.model.tokenize(word)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each, on all cores."""
        return [
            encoding.ids
            for encoding in self._inner.encode_batch_fast(texts, add_special_tokens=False)
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """Skips ids beyond the vocabulary (a model's is padded)."""
        return self._inner.decode([int(token) for token in ids], skip_special_tokens=False)


def size_of(inner: tokenizers.Tokenizer) -> int:
    """One more than the largest token id."""
    return max(inner.get_vocab(with_added_tokens=True).values()) + 1


def read_json(path: Path | str, setting: str = SETTING) -> tuple[str, tokenizers.Tokenizer]:
    """The text of a tokenizer.json, and what it is.

    Raises InputError, naming `setting`, if there is no such file, or it is something else.
    """
    try:
        text = read_small(Path(path).expanduser())
    except OSError as error:
        raise InputError(f"{setting}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{setting}: {path} is not a tokenizer.json") from error
    try:
        return text, tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        reason = str(error).splitlines()[0]
        raise InputError(f"{setting}: {path} is not a tokenizer.json: {reason}") from error


def _from_json(text: str, name: str, special: SpecialTokens) -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer.from_str(text), name=name, special=special)


class StreamDecoder:
    """Decodes token by token; a character of several tokens appears with its last."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        # Some vocabularies drop the space before the first token, so new text is what the last
        # tokens shown and the new ones decode to together, beyond what the last ones did alone.
        self._shown: list[int] = []
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character is unfinished."""
        self._pending.append(int(token))
        fresh = self._fresh()
        if fresh.endswith(UNFINISHED):
            return ""
        self._shown, self._pending = self._pending, []
        return fresh

    def flush(self) -> str:
        """The rest when no more tokens come: replacement marks of an unfinished character."""
        fresh = self._fresh()
        self._shown, self._pending = [], []
        return fresh

    def _fresh(self) -> str:
        before = self._tokenizer.decode(self._shown)
        return self._tokenizer.decode(self._shown + self._pending)[len(before) :]
