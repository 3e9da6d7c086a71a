from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from parallel.checkpoint import direct_io
from parallel.checkpoint.direct_io import DirectWriter, huge_memory, read_blocks

SIZES = [0, 1, 4095, 4096, 4097, (8 << 20) - 1, 8 << 20, (8 << 20) + 4096, (16 << 20) + 5]


def content(size: int) -> bytes:
    return (os.urandom(4099) * (size // 4099 + 1))[:size]


def written(path: Path, data: bytes, piece: int) -> None:
    with DirectWriter(path) as file:
        for first in range(0, len(data), piece):
            part = memoryview(data)[first : first + piece]
            assert file.write(part) == len(part)
            assert file.tell() == first + len(part)
        file.flush()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    data = content(size)
    written(tmp_path / "file", data, piece=1_000_003)
    assert (tmp_path / "file").read_bytes() == data
    assert b"".join(map(bytes, read_blocks(tmp_path / "file"))) == data


@pytest.mark.parametrize("size", SIZES)
def test_a_file_system_without_direct_files(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some refuse the flag when a file is opened."""
    plain_open = os.open

    def refusing(path: Any, flags: int, *mode: int) -> int:
        if flags & direct_io._DIRECT:
            raise OSError(errno.EINVAL, "no such thing here")
        return plain_open(path, flags, *mode)

    monkeypatch.setattr(os, "open", refusing)
    data = content(size)
    written(tmp_path / "file", data, piece=1 << 20)
    assert b"".join(map(bytes, read_blocks(tmp_path / "file"))) == data


@pytest.mark.parametrize("size", SIZES)
def test_a_file_system_with_larger_blocks(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others refuse what is not in their own blocks, when it is written or read."""
    plain_write, plain_readv = os.write, os.readv

    def write(handle: int, data: memoryview) -> int:
        if direct_io._is_direct(handle):
            raise OSError(errno.EINVAL, "a block is 1 GiB here")
        return plain_write(handle, data)

    def readv(handle: int, buffers: list[memoryview]) -> int:
        if direct_io._is_direct(handle):
            raise OSError(errno.EINVAL, "a block is 1 GiB here")
        return plain_readv(handle, buffers)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "readv", readv)
    data = content(size)
    written(tmp_path / "file", data, piece=1 << 20)
    assert b"".join(map(bytes, read_blocks(tmp_path / "file"))) == data


def test_a_write_that_is_cut_short_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: plain_write(handle, data[:12_288]))
    data = content(100_001)
    written(tmp_path / "file", data, piece=1 << 20)
    assert (tmp_path / "file").read_bytes() == data


def test_a_full_disk_is_told_and_the_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / "file", content(9 << 20), piece=1 << 20)
    assert set(os.listdir("/proc/self/fd")) == before


def test_memory_begins_on_a_huge_page() -> None:
    import ctypes

    memory = huge_memory(5)
    assert len(memory) == 5
    assert ctypes.addressof(ctypes.c_char.from_buffer(memory)) % (1 << 21) == 0
