from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from configs.errors import InputError
from corpus.formats import streams
from corpus.formats.streams import Block, Broken, blocks

WORDS = b"".join(b"line %d of a text\n" % number for number in range(5000))


def content(path: Path, resume: bytes | None = None) -> tuple[bytes, list[Broken]]:
    found = list(blocks(path, resume=resume))
    data = b"".join(each.data for each in found if isinstance(each, Block))
    return data, [each for each in found if isinstance(each, Broken)]


def packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


@pytest.fixture(params=["a.gz", "a.zst"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_members_follow_each_other(path: Path) -> None:
    path.write_bytes(packed(path.name, WORDS) + packed(path.name, b"") + packed(path.name, b"end"))
    assert content(path) == (WORDS + b"end", [])


@pytest.mark.parametrize("size", [1, 5000, 1 << 20])
def test_padding_with_zeros_is_no_damage(path: Path, size: int) -> None:
    path.write_bytes(packed(path.name, WORDS) + bytes(size))
    assert content(path) == (WORDS, [])


def test_an_empty_file_is_empty(path: Path) -> None:
    path.write_bytes(b"")
    assert content(path) == (b"", [])


@pytest.mark.parametrize("left", [1, 8, 2000])
def test_a_file_cut_short_is_noticed(path: Path, left: int) -> None:
    path.write_bytes(packed(path.name, os.urandom(5000) + WORDS)[:left])
    data, (broken,) = content(path)
    assert len(data) < 5000
    assert broken == Broken(0, f"the compressed data ends early after {left:,} bytes")


def test_what_came_before_the_cut_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(packed(path.name, WORDS)[:-1])
    data, broken = content(path)
    assert data == WORDS
    assert len(broken) == 1


def test_a_wrong_checksum_is_noticed(path: Path) -> None:
    data = bytearray(packed(path.name, WORDS))
    data[-5 if path.suffix == ".gz" else -1] ^= 1
    path.write_bytes(data)
    ((_, (broken,)), ends) = content(path), [e for e in blocks(path) if isinstance(e, Block)]
    assert broken.at == 0
    assert broken.reason.startswith("the compressed data is damaged (")
    assert not any(block.ends for block in ends)


def test_what_is_not_compressed_is_noticed(path: Path) -> None:
    path.write_bytes(packed(path.name, WORDS) + b"garbage")
    data, (broken,) = content(path)
    assert data == WORDS
    assert broken.at == path.stat().st_size - len(b"garbage")


def test_reading_goes_on_with_the_next_member_asked_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BLOCK", 64)
    first, second, third = (packed(path.name, b"%d " % number + WORDS) for number in range(3))
    path.write_bytes(first[: len(first) // 2] + second + third)
    data, (broken,) = content(path, resume=b"2 ")
    assert broken.at == 0
    assert data.endswith(b"2 " + WORDS)
    assert b"1 line" not in data


def test_a_bomb_goes_off_in_small_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(200 << 20), 1))
    tracemalloc.start()
    assert sum(len(each.data) for each in blocks(path) if isinstance(each, Block)) == 200 << 20
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read .*gone\.gz: No such file or directory$"):
        content(tmp_path / "gone.gz")
    with pytest.raises(InputError, match=r"Is a directory"):
        content(tmp_path)
