from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.settings.text import CorpusConfig, MachineText, SourceConfig
from corpus.sources.sources import files_of, files_of_all, left_out, sources_of
from tests.runs import run_of


def of_weights(*weights: float) -> CorpusConfig:
    sources = {f"s{n}": SourceConfig(weight=w, path="x") for n, w in enumerate(weights)}
    return replace(run_of().corpus, sources=sources)


def names(corpus: CorpusConfig, folder: Path) -> list[str]:
    (source,) = sources_of(replace(corpus, text=str(folder)))
    return [file.path.name for file in files_of(source, corpus, folder / "made", print)]


def test_gpt3s_weights_are_percentages_that_make_101() -> None:
    sources = sources_of(run_of("corpus=gpt3").corpus)
    assert [source.config.weight for source in sources] == [0.60, 0.22, 0.08, 0.08, 0.03]
    assert [source.share for source in sources] == pytest.approx(
        [0.60 / 1.01, 0.22 / 1.01, 0.08 / 1.01, 0.08 / 1.01, 0.03 / 1.01]
    )


def test_the_default_sources_stand_for_gpt3s_with_their_weights() -> None:
    default, gpt3 = (sources_of(run_of(f"corpus={name}").corpus) for name in ("default", "gpt3"))
    assert [source.share for source in default] == [source.share for source in gpt3]
    assert all(source.config.stands_for and source.config.machine for source in default)


def test_a_text_of_the_users_own_is_the_only_source() -> None:
    (source,) = sources_of(replace(run_of().corpus, text="mine.txt"))
    assert (source.name, source.share, source.setting) == ("text", 1.0, "corpus.text")


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        ((0.0, 0.0), r"all weights are 0, .* s0, s1\); nearest: corpus\.sources\.s0\.weight=1$"),
        ((0.0,) * 300, r"s7 and 292 more\); nearest: corpus\.sources\.s0\.weight=1$"),
        ((1.2, -0.2), r"^corpus\.sources\.s1\.weight=-0\.2 is negative; nearest: 0$"),
        (
            (-1.0,) * 300,
            r"^(corpus\.sources\.s.\.weight=-1 is negative; nearest: 0\n  ){8}and 292 more$",
        ),
        ((1e308, 1e308), r"add up to more than a number can hold"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: tuple[float, ...], what: str) -> None:
    with pytest.raises(InputError, match=what):
        sources_of(of_weights(*weights))


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((1, 1, 2), (0.25, 0.25, 0.5)),
        ((60.0, 40.0), (0.6, 0.4)),
        ((0.5, 0.6), (0.5 / 1.1, 0.6 / 1.1)),
        ((3, 0), (1.0, 0.0)),
        ((1.0,) * 300, (1 / 300,) * 300),
    ],
)
def test_shares_are_weights_by_their_sum(
    weights: tuple[float, ...], shares: tuple[float, ...]
) -> None:
    # Checkpoints compare them to the last bit.
    assert tuple(source.share for source in sources_of(of_weights(*weights))) == shares


def test_the_field_of_a_text_is_set_beside_it() -> None:
    mine = replace(run_of().corpus, text="mine.jsonl", field="content")
    (source,) = sources_of(mine)
    assert source.config.field == "content"
    assert source.field_setting == "corpus.field"
    what = r"^corpus\.field=content: is of corpus\.text, .*corpus\.sources\.crawl\.field=content$"
    with pytest.raises(InputError, match=what):
        sources_of(replace(mine, text=None))


def test_all_missing_paths_are_told_before_text_is_made(tmp_path: Path) -> None:
    def made(what: str) -> None:
        pytest.fail(f"{what} although a path is missing")

    sources = {"own": SourceConfig(weight=1, machine=MachineText.manual)}
    sources |= {f"s{n}": SourceConfig(weight=1, path=f"/no/{n}") for n in range(2)}
    corpus = replace(run_of().corpus, sources=sources)
    what = r"^corpus\.sources\.s0\.path: no .* /no/0\n  corpus\.sources\.s1\.path: no .* /no/1$"
    with pytest.raises(InputError, match=what):
        files_of_all(sources_of(corpus), corpus, tmp_path, made)


@pytest.mark.parametrize(
    ("name", "source", "what"),
    [
        ("a/b", SourceConfig(weight=1, path="x"), "letters, digits"),
        (
            "a",
            SourceConfig(weight=1),
            r"neither a path nor machine; nearest: \+\+corpus\.sources\.a\.path=PATH$",
        ),
        ("a", SourceConfig(weight=1, path="x", machine=MachineText.manual), "has both a path"),
        ("a", SourceConfig(weight=float("nan"), path="x"), r"weight=nan is no share"),
        ("a", SourceConfig(weight=1, path="x", quality=True), "no source is curated"),
    ],
)
def test_a_source_that_cannot_be_is_refused(name: str, source: SourceConfig, what: str) -> None:
    with pytest.raises(InputError, match=what):
        sources_of(replace(run_of().corpus, sources={name: source}))


def test_no_sources_are_refused() -> None:
    with pytest.raises(InputError, match=r"^corpus\.sources: there are none"):
        sources_of(replace(run_of().corpus, sources={}))


def test_a_folder_is_read_in_the_order_of_its_names(corpus: CorpusConfig, tmp_path: Path) -> None:
    for name in (
        "b.txt",
        "a/z.MD",
        "a/y.txt",
        "c.bin",
        ".git/x.txt",
        "d.jsonl.gz",
        "e.warc.wet.gz",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    assert names(corpus, tmp_path) == ["y.txt", "z.MD", "b.txt", "d.jsonl.gz", "e.warc.wet.gz"]


def test_a_pattern_chooses_files(corpus: CorpusConfig, tmp_path: Path) -> None:
    for name in ("a1.txt", "a2.txt", "b1.txt"):
        (tmp_path / name).touch()
    assert names(corpus, tmp_path / "a*.txt") == ["a1.txt", "a2.txt"]


def test_a_file_may_be_called_anything(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "words.dat").write_text("some words")
    assert names(corpus, tmp_path / "words.dat") == ["words.dat"]


def test_a_missing_path_is_refused(corpus: CorpusConfig) -> None:
    with pytest.raises(InputError, match=r"^corpus\.text: no file or folder /no/such$"):
        names(corpus, Path("/no/such"))


def test_a_folder_without_text_is_refused(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"holds no text in files that end in \.txt \.md"):
        names(corpus, tmp_path)


def test_files_that_are_not_read_are_told_by_their_endings(
    corpus: CorpusConfig, tmp_path: Path
) -> None:
    for name in ("a.html", "sub/b.HTML.gz", "c.csv", "README", ".git/x.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    endings = r"\.html 2, (\.csv 1, no ending 1|no ending 1, \.csv 1)"
    nearest = "corpus.extensions=[.txt,.md,.rst,.py,.html]"
    with pytest.raises(InputError, match=f"; it has {endings}; nearest: {re.escape(nearest)}$"):
        names(corpus, tmp_path)
    (tmp_path / "d.txt").touch()
    mine = replace(corpus, text=str(tmp_path))
    (told,) = left_out(mine)
    assert (told.source, told.files, told.read, told.nearest) == ("text", 4, 1, nearest)
    assert re.fullmatch(endings, told.endings)
    extensions = nearest.removeprefix("corpus.extensions=[").removesuffix("]").split(",")
    (told,) = left_out(replace(mine, extensions=extensions))
    assert (told.files, told.read) == (2, 3)
    assert not list(left_out(replace(mine, text=str(tmp_path / "d.txt"))))
    assert not list(left_out(replace(mine, text="/no/such")))
    assert not list(left_out(run_of().corpus))


def test_linked_folders_are_read_once(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    (tmp_path / "text" / "link").symlink_to(tmp_path / "other")
    (tmp_path / "text" / "loop").symlink_to(tmp_path / "text")
    assert names(corpus, tmp_path / "text") == ["a.txt"]


def test_a_link_that_leads_nowhere_is_named(corpus: CorpusConfig, tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"^corpus\.text: cannot read .*b\.txt: No such file"):
        names(corpus, tmp_path)


def test_a_pattern_that_matches_nothing_is_told(corpus: CorpusConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^corpus\.text: no file is named like .*x\*$"):
        names(corpus, tmp_path / "x*")
