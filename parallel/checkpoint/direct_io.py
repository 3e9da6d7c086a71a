"""Direct file I/O that bypasses the page cache, which a checkpoint would fill with unread data.

Filling the cache requires free pages, and finding them can cost several times the disk's own time;
and data read back from the cache proves nothing about the disk. Buffers consist of huge pages: a
disk request is limited in its number of memory segments, and segments of 4 KiB make requests too
small (half the throughput on the disk this was measured on).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

_BUFFER = 1 << 23  # bytes
_HUGE_PAGE = 1 << 21  # bytes
_BLOCK = 4096  # bytes: alignment of direct I/O, in memory and in the file
_DIRECT = getattr(os, "O_DIRECT", 0)  # Linux only


def huge_memory(size: int) -> memoryview:
    """A buffer that begins on a huge page, and consists of huge pages where supported."""
    pages = mmap.mmap(-1, max(size, 1) + _HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            pages.madvise(mmap.MADV_HUGEPAGE)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel without huge pages
                raise
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    first = -address % _HUGE_PAGE
    return memoryview(pages)[first : first + size]


class DirectWriter:
    """Writes a new file sequentially; its data is on disk once it is closed."""

    def __init__(self, path: Path) -> None:
        self._handle = _open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._buffer = huge_memory(_BUFFER)
        self._array = np.frombuffer(self._buffer, np.uint8)
        self._used = 0
        self._written = 0

    def write(self, data: memoryview) -> int:
        """Takes all of `data`, through the buffer. Raises OSError if the disk is full."""
        taken = 0
        while taken < len(data):
            part = data[taken : taken + _BUFFER - self._used]
            # numpy lets other threads run while it copies.
            self._array[self._used : self._used + len(part)] = np.frombuffer(part, np.uint8)
            self._used += len(part)
            taken += len(part)
            if self._used == _BUFFER:
                self._drain()
        return taken

    def tell(self) -> int:
        """Bytes taken so far, whether written or still buffered."""
        return self._written + self._used

    def flush(self) -> None:
        """Does nothing: a partial block would end direct I/O. `close` writes the rest."""

    def close(self) -> None:
        """Raises OSError if the disk is full."""
        if self._handle < 0:
            return
        try:
            if self._used % _BLOCK:
                _through_cache(self._handle)
            self._drain()
            os.fsync(self._handle)
        finally:
            os.close(self._handle)
            self._handle = -1

    def _drain(self) -> None:
        view = self._buffer[: self._used]
        while view:
            view = view[self._write_some(view) :]
        self._written += self._used
        self._used = 0

    def _write_some(self, view: memoryview) -> int:
        try:
            count = os.write(self._handle, view)
        except OSError as error:
            if error.errno != errno.EINVAL or not _is_direct(self._handle):
                raise
            count = 0  # a file system with larger blocks
        if count % _BLOCK or not count:
            _through_cache(self._handle)
        return count

    def __enter__(self) -> DirectWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def read_blocks(path: Path) -> Iterator[memoryview]:
    """Yields a file's content from the disk; a block is valid until the next is requested."""
    handle = _open(path, os.O_RDONLY)
    try:
        blocks = os.fstat(handle).st_size // _BLOCK + 1
        buffer = huge_memory(min(_BUFFER, blocks * _BLOCK))
        while count := _read_some(handle, buffer):
            yield buffer[:count]
    finally:
        os.close(handle)


def _read_some(handle: int, buffer: memoryview) -> int:
    try:
        count = os.readv(handle, [buffer])
    except OSError as error:
        if error.errno != errno.EINVAL or not _is_direct(handle):
            raise
        _through_cache(handle)  # a file system with larger blocks
        return os.readv(handle, [buffer])
    if count % _BLOCK:
        _through_cache(handle)  # the rest, if any, begins within a block
    return count


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | _DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without direct I/O
            raise
        return os.open(path, flags, 0o666)


def _is_direct(handle: int) -> bool:
    return bool(fcntl.fcntl(handle, fcntl.F_GETFL) & _DIRECT)


def _through_cache(handle: int) -> None:
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~_DIRECT)
