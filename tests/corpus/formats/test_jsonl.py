from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.formats import jsonl, streams
from corpus.formats.jsonl import read_jsonl
from corpus.formats.records import Damage, Record, texts

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def line(text: str) -> bytes:
    return json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n"


def test_a_line_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line("one\n") + b"\r\n\n" + line(" ") + b'{"text": "end"}')
    assert list(read_jsonl(path, "text")) == [
        Record(path, "byte 0", "one\n"),
        Record(path, "byte 24", " "),
        Record(path, "byte 38", "end"),
    ]


def test_the_text_is_in_the_field_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": 1, "content": "words"}\n')
    assert list(texts(read_jsonl(path, "content"))) == ["words"]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"text": "cut', "not JSON (Unterminated string"),
        (b"[" * 100_000, "not JSON ("),
        (b'["text"]', "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"{}", "no field 'text'"),
        (b'{"text": null}', "'text' is no string but NoneType"),
        (b'{"text": ["a"]}', "'text' is no string but list"),
        (b'{"text": "\xff"}', "not UTF-8 (byte 0xff at 10 of the line)"),
        (b'{"text": "a \\ud83d b"}', "'text' has half a surrogate pair, which is no text"),
        (b'{"text": "a", "n": ' + b"1" * 5000 + b"}", "not JSON (Exceeds the limit"),
    ],
)
def test_a_damaged_line_is_skipped(bad: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line("before") + bad + b"\n" + line("after"))
    before, damage, after = read_jsonl(path, "text")
    assert [before, after] == [
        Record(path, "byte 0", "before"),
        Record(path, f"byte {len(line('before')) + len(bad) + 1:,}", "after"),
    ]
    assert isinstance(damage, Damage)
    assert damage.position == "byte 19"
    assert damage.reason.startswith(reason)


@pytest.mark.parametrize("ending", [b"\n" + line("after"), b""])
def test_a_line_too_long_is_never_held(
    ending: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "LONGEST", 20)
    monkeypatch.setattr(streams, "BLOCK", 7)
    path = tmp_path / "a.jsonl"
    path.write_bytes(line("before") + b"x" * 21 + ending)
    found = list(read_jsonl(path, "text"))
    assert list(texts(found)) == ["before", "after"][: len(found) - 1]
    reason = "a line of 21 bytes; the longest that is read has 20"
    assert found[1] == Damage(path, "byte 19", reason)


ENTRY = st.one_of(
    st.text(alphabet='ab\né北"', max_size=9).map(line),
    st.sampled_from([b"\n", b"\r\n", b"{}\n", b"not json\n", b"\xff\n", b"x" * 30 + b"\n"]),
)


@SHARED
@given(st.lists(ENTRY, max_size=8).map(b"".join), st.data(), st.integers(1, 50))
def test_ranges_give_the_lines_of_the_whole(
    tmp_path: Path, content: bytes, data: st.DataObject, block: int
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    size = st.integers(0, len(content))
    first, second = sorted([data.draw(size), data.draw(size)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "BLOCK", block)
        patch.setattr(jsonl, "LONGEST", 25)
        assert [
            *read_jsonl(path, "text", 0, first),
            *read_jsonl(path, "text", first, second),
            *read_jsonl(path, "text", second),
        ] == list(read_jsonl(path, "text"))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_compressed_file_has_the_same_records(suffix: str, tmp_path: Path) -> None:
    content = b"".join(line(f"document {number}") for number in range(300))
    half = len(content) // 2
    pack = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(content[:half]) + pack(content[half:]))
    plain = tmp_path / "a.jsonl"
    plain.write_bytes(content)
    found = [(each.position, each.text) for each in records(path)]
    assert found == [(each.position, each.text) for each in records(plain)]


def records(path: Path) -> list[Record]:
    found = list(read_jsonl(path, "text"))
    assert all(isinstance(each, Record) for each in found)
    return [each for each in found if isinstance(each, Record)]


def test_records_before_the_end_of_a_cut_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    content = b"".join(line(f"document {number * 7919}") for number in range(300))
    packed = gzip.compress(content, mtime=0)
    path.write_bytes(packed[: len(packed) // 2])
    *kept, damage = read_jsonl(path, "text")
    assert len(kept) > 50
    assert list(texts(kept)) == [f"document {number * 7919}" for number in range(len(kept))]
    whole = b"".join(content.splitlines(keepends=True)[: len(kept)])
    assert damage == Damage(
        path,
        f"byte {len(whole):,}",
        f"the compressed data ends early after {len(packed) // 2:,} bytes; "
        "the rest of the file is not read",
    )
