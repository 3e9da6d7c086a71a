from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from configs.errors import InputError
from configs.settings.text import TextFormat
from corpus.formats import format_of, read, splittable
from corpus.formats.records import Record

AUTO = TextFormat.auto


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.txt", TextFormat.text),
        ("a.TXT.GZ", TextFormat.text),
        ("a.md.zst", TextFormat.text),
        ("a.jsonl", TextFormat.jsonl),
        ("a.ndjson.gz", TextFormat.jsonl),
        ("a.json.zst", TextFormat.jsonl),
        ("a.warc.gz", TextFormat.warc),
        ("a.warc", TextFormat.warc),
        ("CC-MAIN-2023-00001.warc.wet.gz", TextFormat.warc),
        ("a.wet", TextFormat.warc),
        ("a.png", None),
        ("a.tar.gz", None),
        ("txt", None),
    ],
)
def test_a_name_tells_the_format(name: str, format: TextFormat | None) -> None:
    assert format_of(Path(name), AUTO, [".txt", ".MD"]) == format


def test_a_format_that_was_chosen_is_the_format() -> None:
    assert format_of(Path("a.txt"), TextFormat.jsonl, [".txt"]) == TextFormat.jsonl


def test_plain_text_and_lines_can_be_split() -> None:
    assert splittable(Path("a.txt"), TextFormat.text)
    assert splittable(Path("a.jsonl"), TextFormat.jsonl)
    assert not splittable(Path("a.jsonl.gz"), TextFormat.jsonl)
    assert not splittable(Path("a.warc"), TextFormat.warc)


def test_each_format_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b'{"content": "words"}'))
    (line,) = read(path, TextFormat.jsonl, field="content")
    (text,) = read(path, TextFormat.text, field="content")
    assert [line, text] == [
        Record(path, "byte 0", "words"),
        Record(path, "byte 0", '{"content": "words"}'),
    ]


@pytest.mark.parametrize("format", [TextFormat.text, TextFormat.jsonl, TextFormat.warc])
def test_what_cannot_be_read_is_refused(format: TextFormat, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read .*gone: No such file or directory$"):
        list(read(tmp_path / "gone", format, field="text"))
