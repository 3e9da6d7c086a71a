from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.schema import CorpusConfig, ModelConfig
from corpus import prepare as module
from corpus.cache import Prepared
from corpus.prepare import prepare
from corpus.tokenizer import Tokenizer


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_prepared(prepared: Prepared, text_folder: Path) -> None:
    size = sum(path.stat().st_size for path in text_folder.rglob("*.txt"))
    assert prepared.documents == 120
    assert prepared.source == f"{text_folder} (120 documents, {size / 1e6:.2f} MB)"
    (source,) = prepared.sources
    assert source.bytes == size
    assert source.tokens == prepared.train_tokens + prepared.validation_tokens
    width = 2
    assert Path(f"{prepared.train}.bin").stat().st_size == width * prepared.train_tokens
    assert Path(f"{prepared.validation}.bin").stat().st_size == width * prepared.validation_tokens
    assert Tokenizer.load(prepared.tokenizer).size == 300


def test_two_preparations_give_the_same_bytes(
    corpus: CorpusConfig, model: ModelConfig, prepared: Prepared
) -> None:
    again = prepare(corpus, model)
    assert again.folder != prepared.folder
    assert contents(again.folder) == contents(prepared.folder)


def test_a_second_call_does_not_tokenise(
    session_corpus: CorpusConfig,
    model: ModelConfig,
    prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_fill", None)
    assert prepare(session_corpus, model) == prepared


def test_the_same_text_elsewhere_is_known_and_named_anew(
    session_corpus: CorpusConfig, model: ModelConfig, prepared: Prepared, tmp_path: Path
) -> None:
    moved = shutil.copytree(str(session_corpus.text), tmp_path / "moved")
    again = prepare(replace(session_corpus, text=str(moved)), model)
    assert again.folder == prepared.folder
    assert again.source.startswith(str(moved))


def test_anything_that_decides_the_tokens_changes_the_fingerprint(
    corpus: CorpusConfig, model: ModelConfig, prepared: Prepared, tmp_path: Path
) -> None:
    edited = Path(shutil.copytree(str(corpus.text), tmp_path / "edited"))
    first = next(edited.rglob("000.txt"))
    first.write_text(first.read_text().upper())
    others = [
        prepare(replace(corpus, text=str(edited)), model),
        prepare(replace(corpus, validation_fraction=0.2), model),
        prepare(corpus, replace(model, vocab=301)),
    ]
    fingerprints = {prepared.fingerprint, *(other.fingerprint for other in others)}
    assert len(fingerprints) == 4


def test_calls_at_once_agree(corpus: CorpusConfig, model: ModelConfig) -> None:
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: prepare(corpus, model), range(3)))
    assert results[0] == results[1] == results[2]
    assert [path.name for path in Path(str(corpus.cache)).iterdir()] == [results[0].folder.name]


def test_one_file_is_divided_at_a_line(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    path = tmp_path / "book.txt"
    path.write_text("".join(f"line {number} of a book\n" for number in range(500)))
    book = prepare(replace(corpus, text=str(path)), model)
    assert book.documents == 1
    ids = [_tokens(prefix) for prefix in (book.train, book.validation)]
    tokenizer = Tokenizer.load(book.tokenizer)
    head, tail = (tokenizer.decode(each).removesuffix("<|endoftext|>") for each in ids)
    assert head + tail == path.read_text()
    assert tail.startswith("line ")


def _tokens(prefix: Path) -> list[int]:
    from corpus.epoch import open_tokens

    tokens = open_tokens(prefix)
    return [int(token) for number in range(len(tokens)) for token in tokens[number]]


def test_the_default_corpus_is_english(corpus: CorpusConfig, model: ModelConfig) -> None:
    told: list[str] = []
    made = prepare(replace(corpus, text=None, max_bytes=60_000), model, told.append)
    assert made.source.startswith("Python's manual pages (")
    assert made.train_tokens > 10_000
    assert told[1:] == ["training a tokenizer", *told[2:-1], "tokenising, 100 % done"]


@pytest.mark.parametrize(
    ("lines", "part"), [(1, "training"), (8, "validation")], ids=["training", "validation"]
)
def test_too_little_text_is_refused_with_the_numbers(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path, lines: int, part: str
) -> None:
    path = tmp_path / "note.txt"
    path.write_text("".join(f"{number} words\n" for number in range(lines)))
    what = rf"^corpus\.text=\S+note\.txt is too little text: \d+ {part} tokens, .* needs 17$"
    with pytest.raises(InputError, match=what):
        prepare(replace(corpus, text=str(path)), model)


def test_text_for_one_sample_is_enough(
    session_corpus: CorpusConfig, model: ModelConfig, prepared: Prepared
) -> None:
    tokens = prepared.validation_tokens
    assert prepare(session_corpus, replace(model, context=tokens - 1)) == prepared
    with pytest.raises(InputError, match=rf"{tokens:,} validation tokens, .*={tokens} needs"):
        prepare(session_corpus, replace(model, context=tokens))


def test_a_truncated_token_file_is_refused(corpus: CorpusConfig, model: ModelConfig) -> None:
    path = Path(f"{prepare(corpus, model).train}.bin")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"train\.bin has 100 bytes .* delete the folder"):
        prepare(corpus, model)


def test_a_cache_that_cannot_be_written_is_refused(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^corpus\.cache: cannot write in"):
        prepare(replace(corpus, cache=str(tmp_path / "file")), model)


def test_wrong_input_is_refused_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['megatron'] = None; "
        "import corpus.prepare, corpus.tokenizer, corpus.cache"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
