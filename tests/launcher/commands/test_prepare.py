from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from configs.errors import InputError
from configs.load import read
from configs.schema import DeviceName
from configs.settings.text import SourceConfig
from corpus.dataset import shuffle
from corpus.dataset.mixture_plan import plan_mixture
from corpus.prepare.prepare import prepare
from corpus.store.prepared import Prepared, PreparedSource
from corpus.tokenizer.tokenizer import Tokenizer
from corpus.tokenizer.vocabulary import choose
from launcher.command_line.compose import compose_run
from launcher.run.corpus import (
    corpus_of_run,
    corpus_to_train_on,
    human,
    left_out_notes,
    mixture_table,
    notes,
    orders_to_make,
    shares_of,
)
from launcher.run.resolve import resolve
from launcher.run.run_dir import RunFolder, require_same_run
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState
from tests.cli import TINY, phalanx
from tests.runs import run_of


def shown(what: object, capsys: pytest.CaptureFixture[str]) -> str:
    Console(width=100).print(what)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, one of them much smaller than its weight, with one damaged line."""
    folder = tmp_path_factory.mktemp("texts")
    for name, count in (("web", 400), ("books", 40)):
        rows = [
            {"text": f"{name} {number} has words in it, {number * 7919}. " * 9}
            for number in range(count)
        ]
        lines = [json.dumps(row) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    with (folder / "web.jsonl").open("a") as file:
        file.write('{"text": "half a li')
    return folder


@pytest.fixture(scope="module")
def two_sources(texts: Path) -> list[str]:
    return [
        "~corpus.sources",
        *(
            f"+corpus.sources.{name}.{key}={value}"
            for name, weight in (("web", 0.6), ("books", 0.4))
            for key, value in (("path", texts / f"{name}.jsonl"), ("weight", weight))
        ),
    ]


def test_what_is_said_of_a_preparation(two_sources: list[str], texts: Path) -> None:
    tiny = [each for each in TINY if not each.startswith("corpus.text")]
    result = phalanx("prepare", *tiny, *two_sources, "train.steps=2000")
    assert result.status == 0, result.errors
    documents, mixture = result.output.split("mixture of default")
    web = next(line.split() for line in documents.splitlines() if " web " in line)
    assert web[:3] == ["web", "1", "400"]
    assert f"skipped: {texts / 'web.jsonl'}, line 401, byte " in documents
    books = next(line.split() for line in mixture.splitlines() if " books " in line)
    assert books[2:4] == ["40.00%", "6,400"]
    assert float(books[4]) > 1
    assert int(books[5]) < 2000
    assert Path(mixture.split("prepared: ")[1].strip(), "books.train.bin").exists()


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("corpus.sources.crawl.weight=-1", "corpus.sources.crawl.weight=-1 is negative"),
        ("corpus.max_damaged=2", "corpus.max_damaged=2"),
        (
            "corpus=gpt3",
            "corpus.sources.common_crawl.path: no file or folder common_crawl\n  corpus",
        ),
        ("corpus=base", "corpus.sources: there are none; give corpus.text=PATH or corpus=default"),
    ],
)
def test_bad_settings_get_a_line(setting: str, what: str) -> None:
    result = phalanx("prepare", setting)
    assert result.status == 2
    assert what in result.errors
    first, *others = result.errors.strip().splitlines()
    assert all(line.startswith("  corpus.sources.") for line in others), first


def test_a_gpu_job_does_not_prepare_by_surprise(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = "model.vocab=300 model.context=32 model.window=8 train.steps=9"
    run = run_of(f"{tiny} corpus.text={texts}/web.jsonl")
    run = replace(run, corpus=replace(run.corpus, cache=str(tmp_path)))
    plan = replace(resolve(run), device=DeviceName.cuda)
    overrides = ["model.vocab=300", "run_dir=x", "corpus.text=my texts"]
    what = r"is not prepared, and a job is no place for that; first: phalanx prepare "
    with pytest.raises(InputError, match=what + r"model\.vocab=300 'corpus\.text=my texts'$"):
        corpus_to_train_on(plan, overrides, Console())
    prepared = prepare(run.corpus, run.model)
    assert corpus_to_train_on(plan, overrides, Console()) == prepared
    monkeypatch.setattr(shuffle, "SHARED", 1)
    assert orders_to_make(run, prepared) == [("text", 0)]
    with pytest.raises(InputError, match="the order of 1 epochs is not made, and a job"):
        corpus_to_train_on(plan, overrides, Console())


def test_the_mixture_of_gpt3_is_shown_as_the_paper_has_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Table 2.2: epochs over 300 billion tokens; the paper's own are of weights before rounding."""
    from corpus.store.prepared import Prepared, PreparedSource

    sizes = {"common_crawl": 410, "webtext2": 19, "books1": 12, "books2": 55, "wikipedia": 3}
    nothing: dict[str, Any] = dict.fromkeys(PreparedSource.__dataclass_fields__, 0)
    sources = tuple(
        PreparedSource(**{**nothing, "name": name, "tokens": size * 10**9})
        for name, size in sizes.items()
    )
    prepared = Prepared(folder=tmp_path, fingerprint="", sources=sources)
    table = shown(mixture_table(run_of("corpus=gpt3 model=gpt3_175b"), prepared), capsys)
    rows = {line.split()[0]: line.split() for line in table.splitlines() if "%" in line}
    epochs = {name: float(row[4]) for name, row in rows.items()}
    assert epochs == {
        "common_crawl": 0.43, "webtext2": 3.44, "books1": 1.98, "books2": 0.43, "wikipedia": 2.97,
    }  # fmt: skip
    assert len(rows["common_crawl"]) == 5
    assert len(rows["webtext2"]) == 6
    assert "wraps at step" in table
    short = shown(mixture_table(run_of("corpus=gpt3 model=gpt3_nano"), prepared), capsys)
    assert "wraps at step" not in short


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1234567, "1.23M"), (4.1e11, "410B"), (3e15, "3e+03T")],
)
def test_counts_for_people(count: float, text: str) -> None:
    assert human(count) == text


def test_a_gpu_job_makes_no_text_either(tmp_path: Path) -> None:
    run = run_of("layout=single")
    run = replace(run, corpus=replace(run.corpus, cache=str(tmp_path / "cache")))
    plan = replace(resolve(run), device=DeviceName.cuda)
    with pytest.raises(InputError, match=r"^corpus default: is not prepared, .* phalanx prepare$"):
        corpus_to_train_on(plan, [], Console())
    assert not (tmp_path / "cache").exists()


def test_a_run_goes_on_with_the_text_it_began_with(trained: Path) -> None:
    """Although, say, the text has moved since; other text that is asked for is looked at."""
    run = read(trained / "config.yaml")
    folder = RunFolder(trained)
    prepared = corpus_of_run(run, folder)
    assert prepared is not None
    assert prepared.folder == folder.read_corpus()
    other = replace(run, corpus=replace(run.corpus, text="elsewhere"))
    assert corpus_of_run(other, folder) is None
    assert corpus_of_run(run, RunFolder(trained / "nothing")) is None


def test_a_run_goes_on_with_the_weights_it_began_with(trained: Path) -> None:
    plan = resolve(run_of("corpus=gpt3 layout=single"))
    state = replace(TrainState.read(manifest.find(trained)), seed=plan.run.train.seed)
    same = replace(state, shares=shares_of(plan.run))
    require_same_run(plan, same, trained)
    what = r"^corpus\.sources: their shares are common_crawl 0\.5941, .* trained with text 1, and"
    with pytest.raises(InputError, match=what):
        require_same_run(plan, state, trained)


def source(name: str, **counts: int) -> PreparedSource:
    fields = dict.fromkeys((field.name for field in dataclasses.fields(PreparedSource)), 0)
    return PreparedSource(**{**fields, **counts, "name": name})  # type: ignore[arg-type]


def noted(
    tmp_path: Path, sources: tuple[PreparedSource, ...], weights: Mapping[str, float], run: str
) -> str:
    """What is told of a corpus of these sources beside the plan of its mixture."""
    tokenizer = Path(shutil.copyfile(tokenizer_file(tmp_path), tmp_path / "tokenizer.json"))
    assert tokenizer.exists()
    prepared = Prepared(folder=tmp_path, fingerprint="", sources=sources)
    settings = [f"+corpus.sources.{name}.weight={weight}" for name, weight in weights.items()]
    settings += [f"+corpus.sources.{name}.path=x" for name in weights]
    return "\n".join(notes(compose_run(["~corpus.sources", *settings, *run.split()]), prepared))


def tokenizer_file(tmp_path: Path) -> Path:
    path = tmp_path / "made.json"
    path.write_text(choose(run_of("model.vocab=300").model).make(["a few words and more"] * 9))
    return path


def test_what_a_person_may_not_have_meant_of_their_text(tmp_path: Path) -> None:
    sources = (
        source("web", tokens=100_000, documents=90, damaged=3, blank=2),
        source("books", tokens=1_000, documents=5),
        source("off", tokens=50_000, documents=5),
    )
    weights = {"web": 90, "books": 10, "off": 0}
    run = "model.context=32 model.window=8 model.vocab=400 train.steps=2000 train.global_batch=16"
    said = noted(tmp_path, sources, weights, run)
    assert "skipped  3 damaged and 2 blank of 105 documents; " in said
    assert "damaged.txt and dropped.jsonl list them" in said
    assert "source off: no sample of it is read (weight 0)" in said
    one = run.replace("=2000", "=1").replace("=16", "=1")
    unread = "source books: no sample of it is read (10% of 1 samples)"
    assert unread in noted(tmp_path, sources, weights, one)
    assert "source books: read 103 times over; the model will learn it by heart; nearest: " in said
    size = Tokenizer.load(tmp_path / "tokenizer.json").size
    assert f"model.vocab=400: the tokenizer has {size} tokens; {400 - size} rows" in said
    # What is suggested says nothing more of it.
    fewer = int(re.search(r"train\.steps=(\d+)", said)[1])  # type: ignore[index]
    again = noted(tmp_path, sources, weights, f"{run.replace('=2000', f'={fewer}')}")
    assert "times over" not in again
    one_more = noted(tmp_path, sources, weights, run.replace("=2000", f"={fewer + 20}"))
    assert "times over" in one_more


def test_nothing_is_noted_of_an_ordinary_corpus(tmp_path: Path) -> None:
    size = Tokenizer.load(tokenizer_file(tmp_path)).size
    run = f"model.context=32 model.window=8 model.vocab={size} train.steps=20"
    assert noted(tmp_path, (source("web", tokens=100_000, documents=90),), {"web": 1}, run) == ""


def test_rows_of_the_mixture_agree_with_themselves() -> None:
    """No sample and 0.01 epochs stood in one row."""
    sources = (source("web", tokens=100_000), source("rare", tokens=1_000))
    prepared = Prepared(folder=Path(), fingerprint="", sources=sources)
    shares = {"web": 0.7, "rare": 0.3}
    [_, rare] = plan_mixture(prepared, shares, context=32, samples=1)
    assert (rare.samples, rare.epochs) == (0, 0.0)
    [_, rare] = plan_mixture(prepared, shares, context=32, samples=2)
    assert (rare.samples, rare.epochs) == (1, 1 / 31)


def test_files_that_are_not_read_are_noted_and_long_lists_cut(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.html").touch()
    run = compose_run([f"corpus.text={tmp_path}"])
    (line,) = left_out_notes(run)
    what = "source text: 1 of 2 files not read, by their endings: .html 1; nearest: corpus.ext"
    assert line.startswith(what)
    config = SourceConfig(weight=1, path=str(tmp_path))
    many = {f"s{number}": config for number in range(300)}
    run = replace(run, corpus=replace(run.corpus, text=None, sources=many))
    *lines, last = left_out_notes(run)
    assert len(lines) == 8
    assert last == "sources of which files are not read: 292 more"


def test_what_is_said_of_many_sources_is_short(tmp_path: Path) -> None:
    sources = tuple(source(f"s{number}", tokens=1_000, documents=9) for number in range(300))
    weights = {each.name: number % 2 for number, each in enumerate(sources)}
    run = "model.context=32 model.window=8 model.vocab=300 train.steps=99999 train.global_batch=16"
    said = noted(tmp_path, sources, weights, run)
    assert "sources s0, s2, s4, s6, s8, s10, s12, s14 and 142 more: no sample of them" in said
    assert "and 142 more: read 344 times over; the model will learn them by heart" in said
    assert len(said) < 600
