"""Which tokens begin a document, end it and end a generated text, and how a file says so.

A published tokenizer.json names no end-of-text token: files beside it in a Hugging Face folder do.
Caches and checkpoints hold the tokenizer.json alone, so `mark` writes the tokens' roles into it,
under a key of its `added_tokens` that other readers ignore. A file without roles was written before
there were any, or had no need of them, and is read as it always was.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from configs.errors import InputError
from configs.override import override
from configs.reading import read_small
from configs.settings.network import ModelConfig
from configs.words import listed

END_OF_TEXT = ("<|endoftext|>", "</s>")  # of a file without roles
USUAL_ENDS = (*END_OF_TEXT, "<|end_of_text|>")  # of GPT-2, Pythia, OLMo, Qwen; Llama 2; Llama 3
NO_TOKEN = "none"
SETTING = "model.tokenizer"
STOP_TOKENS = "model.stop_tokens"

Content = dict[str, Any]  # of a JSON file

_ROLES, _BEGIN, _END, _STOP = "roles", "begin", "end", "stop"
_DECLARED = ("bos_token", "eos_token", "unk_token", "pad_token")  # roles of transformers alone
_TOKENIZER_CONFIG = "tokenizer_config.json"
_WITH_NAMES = (_TOKENIZER_CONFIG, "special_tokens_map.json")  # the first has the last word
_WITH_IDS = ("generation_config.json", "config.json")


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Tokens with a role, by name."""

    begin: str | None  # before each document and prompt
    end: str  # after each document
    stops: frozenset[str] = frozenset()  # these too end a generated text
    # what a folder of Hugging Face's calls bos_token and so on, for one that is made from it
    declared: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return self.stops | {self.end} | ({self.begin} if self.begin else set())


@dataclass(frozen=True, kw_only=True)
class AskedTokens:
    """The settings of model.*; None: what the tokenizer says."""

    begin: str | None = None
    end: str | None = None
    stops: tuple[str, ...] | None = None

    @classmethod
    def of(cls, model: ModelConfig) -> AskedTokens:
        """Those of a model."""
        stops = None if model.stop_tokens is None else tuple(model.stop_tokens)
        return cls(begin=model.begin_token, end=model.end_token, stops=stops)

    @property
    def by_setting(self) -> list[tuple[str, str]]:
        """The setting and the name of each token asked for."""
        asked = [("model.end_token", self.end), ("model.begin_token", self.begin)]
        asked += [(STOP_TOKENS, token) for token in self.stops or ()]
        return [(key, name) for key, name in asked if name is not None and name != NO_TOKEN]


def read_roles(inner: tokenizers.Tokenizer, content: Content, name: str) -> SpecialTokens:
    """What the content of a tokenizer.json says. Raises InputError if no token ends a text."""
    begin, ends, stops = (
        [token["content"] for token in _added(content) if role in _roles(token)]
        for role in (_BEGIN, _END, _STOP)
    )
    if not ends:
        return SpecialTokens(begin=None, end=_usual_end(inner, name, END_OF_TEXT))
    declared = {
        role: token["content"]
        for role in _DECLARED
        for token in _added(content)
        if role in _roles(token)
    }
    return SpecialTokens(
        begin=next(iter(begin), None), end=ends[0], stops=frozenset(stops), declared=declared
    )


def mark(
    text: str,
    inner: tokenizers.Tokenizer,
    asked: AskedTokens,
    name: str,
    folder: Path | None = None,
    setting: str | None = None,
) -> str:
    """The tokenizer.json with the roles of its tokens, unchanged if it is read like that anyway.

    They are those asked for, else those of the file, else what the folder or the tokenizer says.
    Raises InputError for a name that the tokenizer lacks, or naming `setting` for a folder's file
    that cannot be read.
    """
    content: Content = json.loads(text)
    special = _choose(inner, content, asked, name, folder, setting)
    try:
        if read_roles(inner, content, name) == special:
            return text
    except InputError:  # nothing in it ends a text so far
        pass
    with_role = [(_END, special.end), *((_STOP, each) for each in special.stops)]
    with_role += [(_BEGIN, special.begin)] if special.begin else []
    with_role += special.declared.items()
    roles: dict[str, list[str]] = {}
    for role, each in with_role:
        roles.setdefault(each, []).append(role)
    added = {token["content"]: token for token in _added(content)}
    for each in sorted(roles.keys() - added.keys()):
        added[each] = _as_added(inner, each)
    for each, token in added.items():
        token.pop(_ROLES, None)
        token |= {_ROLES: roles[each]} if each in roles else {}
    content["added_tokens"] = list(added.values())
    if _own_begin(inner) != special.begin:  # transformers shall begin a prompt as we do
        content["post_processor"] = _template(inner, special.begin)
    return json.dumps(content, ensure_ascii=False)


def _choose(
    inner: tokenizers.Tokenizer,
    content: Content,
    asked: AskedTokens,
    name: str,
    folder: Path | None,
    setting: str | None,
) -> SpecialTokens:
    for key, token in asked.by_setting:
        _require_token(inner, _set(key, token), token, key)
    declared: Mapping[str, str] = {}
    if any(map(_roles, _added(content))):
        own = read_roles(inner, content, name)
        begin, ends, declared = own.begin, [own.end, *own.stops], own.declared
    elif folder is not None:
        said = setting or f"{SETTING}={folder}"
        begin, ends = _said_by(folder, inner, said)
        declared = _declared_by(folder, inner, said)
    else:
        begin, ends = _own_begin(inner), []
    if asked.begin is not None:
        begin = None if asked.begin == NO_TOKEN else asked.begin
    if asked.end is not None:
        ends = [asked.end, *ends[1:]]
    if not ends:
        added = {token["content"] for token in _added(content) if token["special"]}
        usual = sorted(USUAL_ENDS, key=lambda token: token not in added)
        ends = [_usual_end(inner, name, usual, setting or SETTING)]
    stops = frozenset(ends[1:] if asked.stops is None else asked.stops)
    return SpecialTokens(begin=begin, end=ends[0], stops=stops - {ends[0]}, declared=declared)


def _own_begin(inner: tokenizers.Tokenizer) -> str | None:
    """The token that the tokenizer puts before a text where transformers encodes one."""
    plain = inner.encode("a", add_special_tokens=False).ids
    full = inner.encode("a", add_special_tokens=True).ids
    return inner.id_to_token(full[0]) if full[:1] != plain[:1] else None


def _said_by(
    folder: Path, inner: tokenizers.Tokenizer, setting: str
) -> tuple[str | None, list[str]]:
    """What transformers makes of the folder: the token before a text, and those that end one."""
    files = {name: _json(folder / name, setting) for name in (*_WITH_NAMES, *_WITH_IDS)}
    begins: list[str] = []
    ends: list[str] = []
    for name in _WITH_NAMES:
        for key, found in (("bos_token", begins), ("eos_token", ends)):
            token = _token(files[name].get(key))
            if token is not None:
                said = f"{setting}: {key}={token!r} in its {name}"
                _require_token(
                    inner, said, token, f"model.{'begin' if begins is found else 'end'}_token"
                )
                found.append(token)
    for name in _WITH_IDS:
        value = files[name].get("eos_token_id")
        ids = value if isinstance(value, list) else [value]
        names = [inner.id_to_token(it) for it in ids if isinstance(it, int) and 0 <= it < 1 << 32]
        ends += [token for token in names if token is not None]
    adds = files[_TOKENIZER_CONFIG].get("add_bos_token")
    begin = _own_begin(inner) if adds is None else begins[0] if adds and begins else None
    return begin, list(dict.fromkeys(ends))


def _declared_by(folder: Path, inner: tokenizers.Tokenizer, setting: str) -> dict[str, str]:
    """The tokens that a folder names, of those that the tokenizer has."""
    found: dict[str, str] = {}
    for content in (_json(folder / name, setting) for name in _WITH_NAMES):
        for key in _DECLARED:
            token = _token(content.get(key))
            if token is not None and inner.token_to_id(token) is not None:
                found.setdefault(key, token)
    return found


def _token(value: object) -> str | None:
    """Files spell one as text, or as an object with it."""
    token = value.get("content") if isinstance(value, dict) else value
    return token if isinstance(token, str) else None


def _require_token(inner: tokenizers.Tokenizer, said: str, token: str, setting: str) -> None:
    if inner.token_to_id(token) is not None:
        return
    added = [each.content for each in inner.get_added_tokens_decoder().values()]
    near = difflib.get_close_matches(token, added or list(inner.get_vocab()), n=1, cutoff=0.0)
    nearest = f"; nearest: {_set(setting, near[0])}" if near else ""
    raise InputError(f"{said}: the tokenizer has no such token{nearest}")


def _set(setting: str, token: str) -> str:
    return override(setting, [token] if setting == STOP_TOKENS else token)


def _usual_end(
    inner: tokenizers.Tokenizer, name: str, usual: Sequence[str], setting: str = SETTING
) -> str:
    for token in usual:
        if inner.token_to_id(token) is not None:
            return token
    raise InputError(
        f"{setting}: {name} has no end-of-text token ({listed(usual, apart=' or ')}); "
        "nearest: model.end_token=NAME, one of its own"
    )


def _added(content: Content) -> list[Content]:
    return list(content.get("added_tokens") or ())


def _roles(token: Content) -> list[Any]:
    found = token.get(_ROLES)
    return found if isinstance(found, list) else []


def _as_added(inner: tokenizers.Tokenizer, token: str) -> Content:
    """A token of the vocabulary, as an added one that text cannot contain."""
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return {
        "id": inner.token_to_id(token),
        "content": token,
        **dict.fromkeys(flags, False),
        "special": True,
    }


def _template(inner: tokenizers.Tokenizer, begin: str | None) -> Content | None:
    if begin is None:
        return None
    first, text = (
        {"SpecialToken": {"id": begin, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    )
    other = {"Sequence": {"id": "B", "type_id": 1}}
    known = {"id": begin, "ids": [inner.token_to_id(begin)], "tokens": [begin]}
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, other],
        "special_tokens": {begin: known},
    }


def _json(path: Path, setting: str) -> Content:
    """Empty if there is no such file."""
    if not path.exists():
        return {}
    try:
        found = json.loads(read_small(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{setting}: {path.name}: {reason}") from None
    if not isinstance(found, dict):
        raise InputError(f"{setting}: {path.name} is not a JSON object")
    return found
