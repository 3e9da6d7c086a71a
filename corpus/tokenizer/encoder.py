"""Text to arrays of token ids, as fast as one core can.

`tokenizers` keeps offsets, words and strings of every token; the corpus needs only the ids. For a
byte-level BPE vocabulary, such as GPT-2's, `tiktoken` produces the same ids several times faster.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tiktoken

from corpus.tokenizer.chunks import pieces
from corpus.tokenizer.tokenizer import Tokenizer

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""How GPT-2 and ByteLevel of `tokenizers` split text into words (in tiktoken's syntax)."""

Ids = npt.NDArray[np.integer]


class Encoder(Protocol):
    """Turns texts into arrays of token ids."""

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, without end-of-text; special tokens are encoded as plain text."""
        ...


def encoder_of(tokenizer: Tokenizer) -> Encoder:
    """The fastest encoder that produces the tokenizer's own ids."""
    ranks = _ranks(tokenizer, json.loads(tokenizer.to_json()))
    return _TokenizersEncoder(tokenizer) if ranks is None else _TiktokenEncoder(ranks)


class _TokenizersEncoder:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._dtype = np.uint16 if tokenizer.size <= 1 << 16 else np.int32
        # Llama 2's puts a space before every text that it encodes, so also before a piece.
        parts = [*tokenizer.encode("a"), *tokenizer.encode(" b")]
        self._cuts = tokenizer.encode("a b") == parts

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        cut = [list(pieces(text)) if self._cuts else [text] for text in texts]
        ids = iter(self._tokenizer.encode_batch([piece for each in cut for piece in each]))
        return [
            np.array([token for _ in each for token in next(ids)], dtype=self._dtype)
            for each in cut
        ]


class _TiktokenEncoder:
    def __init__(self, ids: dict[bytes, int]) -> None:
        """`ids`: the id of each token's bytes, in BPE's merge order."""
        ranks = {token: rank for rank, token in enumerate(ids)}
        self._inner = tiktoken.Encoding(
            "phalanx", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
        )
        self._ids = np.array(list(ids.values()))
        self._same = bool((self._ids == np.arange(len(self._ids))).all())

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Ids:
        found: list[Ids] = [
            self._inner.encode_to_numpy(p, disallowed_special=()) for p in pieces(text)
        ]
        ranks = np.concatenate([np.zeros(0, np.uint32), *found])
        return ranks if self._same else self._ids[ranks.astype(np.intp)]


def _ranks(tokenizer: Tokenizer, content: dict[str, Any]) -> dict[bytes, int] | None:
    """Ids by the bytes of tokens, bytes first, then merges in order; None if tiktoken would differ.

    tiktoken merges any two neighbours whose bytes together are a token, lowest rank first; BPE
    only pairs in its list. They agree if no two merges produce the same token and BPE encodes every
    token's bytes as that token: a pair of neighbours that tiktoken would merge and BPE would not
    then never occurs, because within the pair's bytes both merge the same pairs in the same order.
    """
    if not _plain_byte_level(content):
        return None
    characters = byte_characters()
    vocabulary: dict[str, int] = content["model"]["vocab"]
    merges = (
        pair if isinstance(pair, list) else pair.split(" ") for pair in content["model"]["merges"]
    )
    tokens = [*characters, *("".join(pair) for pair in merges)]
    usable = len(set(tokens)) == len(tokens) and all(token in vocabulary for token in tokens)
    if not usable or any(tokenizer.merged(token) != [token] for token in tokens):
        return None
    return {
        bytes(characters[character] for character in token): vocabulary[token] for token in tokens
    }


def _plain_byte_level(content: dict[str, Any]) -> bool:
    model, before = content["model"], content["pre_tokenizer"] or {}
    return (
        model["type"] == "BPE"
        and not any(model.get(key) for key in ("dropout", "ignore_merges", "byte_fallback"))
        and not any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix"))
        and content["normalizer"] is None
        and before.get("type") == "ByteLevel"
        and not before.get("add_prefix_space")
        and bool(before.get("use_regex", True))
        and all(token["special"] for token in content["added_tokens"])
    )


def byte_characters() -> dict[str, int]:
    """The character for each byte in GPT-2's vocabulary, in its order of bytes."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {
        **{chr(byte): byte for byte in shown},
        **{chr(256 + number): byte for number, byte in enumerate(hidden)},
    }
