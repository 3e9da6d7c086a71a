from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.formats import text
from corpus.formats.records import Damage, Record
from corpus.formats.text import read_text

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PART", 16)
    monkeypatch.setattr(text, "WINDOW", 6)


def parts(path: Path) -> list[str]:
    found = list(read_text(path))
    assert all(isinstance(each, Record) for each in found)
    assert [each.ends for each in found if isinstance(each, Record)] == [
        index == len(found) - 1 for index in range(len(found))
    ]
    assert [each.begins for each in found if isinstance(each, Record)] == [
        index == 0 for index in range(len(found))
    ]
    return [each.text for each in found if isinstance(each, Record)]


def test_a_file_is_a_document_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("né\r\n北京\n \n".encode())
    assert list(read_text(path)) == [Record(path, "byte 0", "né\r\n北京\n \n")]


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_a_blank_file_is_a_document_too(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert parts(path) == [content.decode()]


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfwords")
    assert parts(path) == ["words"]


def test_parts_are_cut_before_white_space_that_follows_a_word(
    tmp_path: Path, small_parts: None
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0123456789abcdef  gh  ij and\n\nso on")
    assert parts(path) == ["0123456789abcdef", "  gh  ij and\n\nso", " on"]
    path.write_text("0123456789abcd   ef ghi")
    assert parts(path) == ["0123456789abcd   ef", " ghi"]


def test_a_wide_space_is_white_space_too(tmp_path: Path, small_parts: None) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0123456789abcd\u3000 f g", encoding="utf-8")  # 14 bytes, 3 bytes
    assert parts(path) == ["0123456789abcd\u3000 f", " g"]


def test_where_there_is_no_space_no_character_is_cut(tmp_path: Path, small_parts: None) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a" + "北" * 9, encoding="utf-8")
    assert parts(path) == ["a北北北北北", "北北北北"]


@SHARED
@given(st.text(alphabet="ab \n\té北\u3000🜁", max_size=90), st.integers(8, 40), st.booleans())
def test_ranges_give_the_parts_of_the_whole(
    tmp_path: Path, content: str, part: int, packed: bool
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PART", part)
        patch.setattr(text, "WINDOW", 6)
        whole = list(read_text(path))
        size = path.stat().st_size
        ranges = [
            each
            for start in range(0, max(size, 1), part)
            for each in read_text(path, start, min(start + part, max(size, 1)))
        ]
        assert ranges == whole
        assert "".join(parts(path)) == content
        if packed:
            zipped = path.with_suffix(".txt.gz")
            zipped.write_bytes(gzip.compress(content.encode(), 1))
            assert parts(zipped) == parts(path)


def test_a_part_that_is_not_utf8_is_skipped(tmp_path: Path, small_parts: None) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456789abcdef g\xffhi and the rest is fine")
    first, damage, *rest = read_text(path)
    assert isinstance(first, Record)
    assert damage == Damage(path, "byte 16", "not UTF-8 (byte 0xff at offset 18)")
    assert "".join(each.text for each in rest if isinstance(each, Record)) == " is fine"


def test_what_is_not_utf8_after_a_byte_order_mark_has_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfab\xe9")
    (damage,) = read_text(path)
    assert damage == Damage(path, "byte 0", "not UTF-8 (byte 0xe9 at offset 5)")


def test_the_part_that_a_compressed_file_ends_in_is_damaged(
    tmp_path: Path, small_parts: None
) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"some words that go on and on", mtime=0)[:-3])
    first, damage = read_text(path)
    assert isinstance(first, Record)
    assert not first.ends
    assert isinstance(damage, Damage)
    assert damage.position == f"byte {len(first.text)}"
    assert damage.reason.startswith("the compressed data ends early after ")
