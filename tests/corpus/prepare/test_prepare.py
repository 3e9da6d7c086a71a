from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError, RunError
from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig, SourceConfig
from corpus.dataset.epoch import open_tokens
from corpus.prepare import prepare as module
from corpus.prepare import select
from corpus.prepare.prepare import prepare, prepared_before
from corpus.sources import units
from corpus.store import token_file
from corpus.store.prepared import Prepared
from corpus.tokenizer.tokenizer import Tokenizer


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def documents(prepared: Prepared, source: str = "text") -> list[str]:
    """The text of every document, training first."""
    tokenizer = Tokenizer.load(prepared.tokenizer)
    return [
        tokenizer.decode(tokens[number]).removesuffix("<|endoftext|>")
        for part in ("train", "validation")
        for tokens in [open_tokens(prepared.tokens(source, part))]
        for number in range(len(tokens))
    ]


def jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_what_is_prepared(prepared: Prepared, text_folder: Path) -> None:
    files = list(text_folder.rglob("*.txt"))
    (source,) = prepared.sources
    assert source.documents == prepared.documents == 120
    assert source.bytes == sum(path.stat().st_size for path in files)
    assert sorted(documents(prepared)) == sorted(path.read_text() for path in files)
    width = 2
    sizes = {"train": prepared.train_tokens, "validation": prepared.validation_tokens}
    for part, tokens in sizes.items():
        assert Path(f"{prepared.tokens('text', part)}.bin").stat().st_size == width * tokens
    assert Tokenizer.load(prepared.tokenizer).size == 300


def test_each_source_has_its_own_files(mixed: Prepared, text_folder: Path) -> None:
    for name in ("part0", "part1", "part2"):
        texts = [path.read_text() for path in sorted((text_folder / name).iterdir())]
        found = documents(mixed, name)  # all the heads, then all the tails
        heads, tails = found[: len(texts)], found[len(texts) :]
        assert [head + tail for head, tail in zip(heads, tails, strict=True)] == texts


def test_two_preparations_give_the_same_bytes(
    corpus: CorpusConfig, model: ModelConfig, prepared: Prepared
) -> None:
    again = prepare(corpus, model)
    assert again.folder != prepared.folder
    assert contents(again.folder) == contents(prepared.folder)


def test_the_number_of_processes_does_not_show(
    mixed_corpus: CorpusConfig, model: ModelConfig, mixed: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SMALL", 4_000)
    two = prepare(replace(mixed_corpus, workers=2), model)
    assert contents(two.folder) == contents(mixed.folder)


def test_nothing_of_the_work_is_left(corpus: CorpusConfig, model: ModelConfig) -> None:
    made = prepare(corpus, model)
    assert {path.name for path in made.folder.parent.iterdir()} == {made.folder.name, "known"}


def test_a_second_call_reads_no_text(
    session_corpus: CorpusConfig,
    model: ModelConfig,
    prepared: Prepared,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_Preparation", None)
    assert prepare(session_corpus, model) == prepared
    assert prepared_before(session_corpus, model) == prepared


def test_what_was_not_prepared_is_not_found(corpus: CorpusConfig, model: ModelConfig) -> None:
    assert prepared_before(corpus, model) is None


def test_the_same_text_elsewhere_is_known(
    session_corpus: CorpusConfig, model: ModelConfig, prepared: Prepared, tmp_path: Path
) -> None:
    moved = shutil.copytree(str(session_corpus.text), tmp_path / "moved")
    again = prepare(replace(session_corpus, text=str(moved)), model)
    assert again.folder == prepared.folder


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


def test_weights_are_no_reason_to_tokenise_again(
    session_mixed: CorpusConfig, model: ModelConfig, mixed: Prepared
) -> None:
    sources = {name: replace(each, weight=1 / 3) for name, each in session_mixed.sources.items()}
    assert prepare(replace(session_mixed, sources=sources), model).folder == mixed.folder


def test_calls_at_once_agree(corpus: CorpusConfig, model: ModelConfig) -> None:
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: prepare(corpus, model), range(3)))
    assert results[0] == results[1] == results[2]


def test_one_file_is_divided_at_a_line(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    path = tmp_path / "book.txt"
    path.write_text("".join(f"line {number} of a book\n" for number in range(500)))
    head, tail = documents(prepare(replace(corpus, text=str(path)), model))
    assert head + tail == path.read_text()
    assert tail.startswith("line ")


def test_gpt2s_vocabulary_needs_no_training(
    corpus: CorpusConfig, model: ModelConfig, prepared: Prepared
) -> None:
    gpt2 = prepare(corpus, replace(model, tokenizer="gpt2", vocab=50_257))
    assert sorted(documents(gpt2)) == sorted(documents(prepared))


def test_formats_give_the_same_documents(
    corpus: CorpusConfig, model: ModelConfig, prepared: Prepared, text_folder: Path, tmp_path: Path
) -> None:
    texts = [path.read_text() for path in sorted(text_folder.rglob("*.txt"))]
    rows = "".join(f"{json.dumps({'body': text})}\n" for text in texts)
    (tmp_path / "all.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    source = SourceConfig(weight=1, path=str(tmp_path / "all.jsonl.gz"), field="body")
    made = prepare(replace(corpus, text=None, sources={"text": source}), model)
    assert sorted(documents(made)) == sorted(documents(prepared))


def test_damaged_records_are_skipped_counted_and_listed(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    rows: list[object] = [{"text": f"document {number} of many\n" * 9} for number in range(300)]
    rows[7] = {"words": "no text"}
    path = jsonl(tmp_path / "mine.jsonl", rows)
    made = prepare(replace(corpus, text=str(path)), model)
    assert (made.sources[0].documents, made.sources[0].damaged) == (299, 1)
    (line,) = made.damaged.read_text().splitlines()
    what = "no field 'text'; the line has words; nearest: corpus.field=words"
    assert line == f"{path}, line 8, byte 1,351: {what}"


def test_too_much_damage_ends_the_preparation(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    rows = [{"text": "some words, and some more of them " * 3}] * 90 + [{"words": "no text"}] * 10
    path = jsonl(tmp_path / "mine.jsonl", rows)
    what = r"^corpus\.text: 10 of 100 records are damaged, more than corpus\.max_damaged=0\.01 .*"
    nearest = r"; nearest: corpus\.field=words or corpus\.max_damaged=0\.1"
    mine = replace(corpus, text=str(path))
    with pytest.raises(
        InputError, match=what + rf"{path}, line 91, byte .* \(and 9 more\).*{nearest}$"
    ):
        prepare(mine, model)
    assert prepare(replace(mine, max_damaged=0.1), model).sources[0].damaged == 10
    with pytest.raises(InputError, match=what):
        prepare(mine, model)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"id": 7, "url": "a.b", "content": "words " * 9}, "url, content; nearest: {}=content"),
        ({"text": None, "my words": "words"}, "my words; nearest: {}='?my words'?"),
        ({"id": 7, "meta": {}}, "id, meta, where no text is"),
        ({}, "no field"),
    ],
)
def test_text_in_another_field_is_told_with_the_setting_that_reads_it(
    row: dict[str, object], what: str, corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    rows: list[object] = [{"text": "some words"}] * 40 + [row] * 60
    path = str(jsonl(tmp_path / "mine.jsonl", rows))
    source = SourceConfig(weight=1, path=path)
    for where, field, mine in (
        ("corpus.text", "corpus.field", replace(corpus, text=path)),
        (
            "corpus.sources.web.path",
            r"\+\+corpus.sources.web.field",
            replace(corpus, text=None, sources={"web": source}),
        ),
    ):
        told = f"{where}: 60 of 100 lines have no text in a field 'text'; they have {what}$"
        with pytest.raises(InputError, match=f"^{told.format(field)}"):
            prepare(mine, model)


def test_the_field_that_is_told_of_is_read(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    rows: list[object] = [{"content": f"document {n} of many\n" * 9} for n in range(99)]
    path = jsonl(tmp_path / "mine.jsonl", rows)
    made = prepare(replace(corpus, text=str(path), field="content"), model)
    assert made.sources[0].documents == 99


def test_all_sources_at_fault_are_named(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    good = jsonl(tmp_path / "good.jsonl", [{"text": f"document {n} " * 99} for n in range(99)])
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n")
    bad = jsonl(tmp_path / "bad.jsonl", [{"words": "x"}, {"words": "y"}])
    sources = {
        path.stem: SourceConfig(weight=1, path=str(path))
        for path in (good, tmp_path / "empty.txt", tmp_path / "blank.txt", bad)
    }
    mine = replace(corpus, text=None, sources=sources, max_damaged=1.0)
    with pytest.raises(InputError) as found:
        prepare(mine, model)
    empty, blank, unread = str(found.value).split("\n  corpus.")
    assert empty.startswith("corpus.sources.empty.path: ")
    assert empty.endswith("empty.txt is empty: it holds no text")
    assert blank.startswith("sources.blank.path: ")
    assert unread.startswith("sources.bad.path: ")
    assert "holds no text that can be read: 2 records are damaged, the first: " in unread
    assert unread.endswith("nearest: ++corpus.sources.bad.field=words")


def test_text_that_is_not_utf8_is_named_with_the_place(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt, .*not UTF-8 \(byte 0xe9 at offset 3\)"):
        prepare(replace(corpus, text=str(tmp_path)), model)


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_an_empty_source_is_refused(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path, content: str
) -> None:
    (tmp_path / "empty.txt").write_text(content)
    with pytest.raises(InputError, match=r"^corpus\.text: .*empty\.txt is empty"):
        prepare(replace(corpus, text=str(tmp_path / "empty.txt")), model)


def test_filters_drop_and_report(corpus: CorpusConfig, model: ModelConfig, tmp_path: Path) -> None:
    """Near copies of curated text and of each other go, and so does what reads like nothing."""
    good, junk = (
        [" ".join(f"{word}{dice.randrange(99)}" for _ in range(200)) for _ in range(count)]
        for dice in [random.Random(1)]
        for word, count in (("word", 140), ("click", 800))
    )
    curated = jsonl(tmp_path / "curated.jsonl", [{"text": text} for text in good[:60]])
    crawl = jsonl(
        tmp_path / "crawl.jsonl",
        [{"text": text} for text in [*junk, *good[40:], f"{good[139]} more"]],
    )
    sources = {
        "crawl": SourceConfig(weight=0.5, path=str(crawl), quality=True, deduplicate=True),
        "curated": SourceConfig(weight=0.5, path=str(curated), curated=True),
    }
    made = prepare(replace(corpus, text=None, sources=sources), model)
    crawled, kept = made.sources
    assert kept.documents == 60
    assert crawled.low_quality > 700
    assert 1 <= crawled.duplicates <= 21
    assert 10 <= crawled.documents <= 100
    assert crawled.documents + crawled.low_quality + crawled.duplicates == 901
    rows = [json.loads(line) for line in made.dropped.read_text().splitlines()]
    assert len(rows) == crawled.low_quality + crawled.duplicates
    assert {row["why"] for row in rows} == {"quality", "duplicate"}
    assert {row["file"] for row in rows} == {str(crawl)}


@pytest.mark.parametrize(
    ("lines", "part"), [(1, "training"), (8, "validation")], ids=["training", "validation"]
)
def test_too_little_text_is_refused_with_the_numbers(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path, lines: int, part: str
) -> None:
    path = tmp_path / "note.txt"
    path.write_text("".join(f"{number} words\n" for number in range(lines)))
    what = rf"^corpus\.text: text is too little text: \d+ {part} tokens, .* needs 17$"
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
    path = Path(f"{prepare(corpus, model).tokens('text', 'train')}.bin")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"train\.bin has 100 bytes .* delete the folder"):
        prepare(corpus, model)


def test_a_cache_that_cannot_be_written_is_refused(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^corpus\.cache: cannot write in"):
        prepare(replace(corpus, cache=str(tmp_path / "file")), model)


def test_a_full_disk_is_told_and_nothing_is_lost(
    corpus: CorpusConfig, model: ModelConfig, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(token_file.TokenWriter, "add", full)
        with pytest.raises(RunError, match=r"failed: No space left on device; what is finished"):
            prepare(corpus, model)
    assert contents(prepare(corpus, model).folder) == contents(prepared.folder)


def test_wrong_input_is_refused_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['megatron'] = None; "
        "import corpus.prepare.prepare, corpus.dataset.mixture_plan; "
        "import corpus.tokenizer.tokenizer, corpus.store.prepared"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("change", [lambda text: text.upper(), lambda t: t[:-50], lambda t: t * 2])
def test_a_file_that_changes_between_the_readings_is_told(
    corpus: CorpusConfig,
    model: ModelConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[str], str],
) -> None:
    rows = [{"text": f"document {number} of many\n" * 9} for number in range(300)]
    path = jsonl(tmp_path / "mine.jsonl", rows)
    before = path.read_text()

    def choose_late(*arguments: Any) -> Any:
        path.write_text(change(before).replace("TEXT", "text"))
        return select.select(*arguments)

    mine = replace(corpus, text=str(path))
    with monkeypatch.context() as patch:
        patch.setattr(module, "select", choose_late)
        with pytest.raises(InputError, match=r"mine\.jsonl changed while it was being read; run"):
            prepare(mine, model)
    path.write_text(before)
    assert prepare(mine, model).documents == 300


def test_damage_is_told_of_the_file_that_has_it(
    corpus: CorpusConfig, model: ModelConfig, tmp_path: Path
) -> None:
    """Although the text that could be read was prepared before."""
    rows = [{"text": f"document {number} of many\n" * 9} for number in range(300)]
    good, bad = jsonl(tmp_path / "good.jsonl", rows), jsonl(tmp_path / "bad.jsonl", [*rows, "x"])
    assert prepare(replace(corpus, text=str(good)), model).sources[0].damaged == 0
    made = prepare(replace(corpus, text=str(bad)), model)
    assert made.sources[0].damaged == 1
    assert made.damaged.read_text().startswith(str(bad))
    assert prepare(replace(corpus, text=str(good)), model).sources[0].damaged == 0
