"""Crawls Python's documentation, as served by pydoc's own HTTP server, into WARC.

pydoc imports what it documents, so it runs in a separate process, in an empty folder.
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from fastwarc.warc import WarcRecord, WarcRecordType

from configs.errors import RunError
from corpus.formats.pages import page_text
from corpus.machine.documents import Room, hashed

SERVER = Path(__file__).with_name("pydoc_server.py")
TIMEOUT = 60  # seconds per page
INSTEAD = "give text of your own with corpus.text=PATH"

# Modules that act when imported, or that describe this machine rather than Python.
LEFT_OUT = {
    "__main__",
    "antigravity",
    "idlelib",
    "lib2to3",
    "site",
    "sys",
    "sysconfig",
    "test",
    "tests",
    "this",
    "turtledemo",
}
_LINK = re.compile(rb'<a href="([A-Za-z_][A-Za-z_0-9.]*)\.html(?:#[^"]*)?"')
_FAILED = b"<title>Pydoc: Error"  # pydoc returns 200 all the same


def crawl(stream: BinaryIO, max_bytes: int, progress: Callable[[str], None]) -> None:
    """Follows the links from the index, breadth first, until there are `max_bytes` of text.

    Raises RunError if no server can be started.
    """
    progress("crawling Python's documentation over loopback")
    room = Room(max_bytes)
    with _server() as port:
        stream.write(_member(_record(WarcRecordType.warcinfo, b"software: phalanx\r\n")))
        for uri, request, response in _visits(port):
            page = _record(WarcRecordType.response, response, uri)
            if room.take(page_text(page) or ""):
                stream.write(_member(_record(WarcRecordType.request, request, uri)))
                stream.write(_member(page))
            if room.full:
                return


def _visits(port: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Address, request and response of each page except the index, which is a list of names.

    Pages at the same distance from the index are shuffled deterministically.
    """
    seen: set[str] = set()
    level = _links(_get(port, "/index.html")[1])
    while level:
        found: set[str] = set()
        for name in sorted(level, key=hashed):
            path = f"/{name}.html"
            request, response = _get(port, path)
            if _FAILED not in response:
                found |= _links(response)
                yield f"http://127.0.0.1:{port}{path}", request, response
        seen |= level
        level = found - seen


def _links(page: bytes) -> set[str]:
    names = (match[1].decode() for match in _LINK.finditer(page))
    return {name for name in names if _wanted(name.split("."))}


def _wanted(parts: list[str]) -> bool:
    return parts[0] in sys.stdlib_module_names and not LEFT_OUT & set(parts)


def _get(port: int, path: str) -> tuple[bytes, bytes]:
    """Request and response as sent over the wire."""
    headers = {"Host": f"127.0.0.1:{port}", "User-Agent": "phalanx", "Accept": "text/html"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise RunError(f"pydoc's server gives no {path}: {error!r}; {INSTEAD}") from error
    finally:
        connection.close()
    status = f"HTTP/1.{answer.version % 10} {answer.status} {answer.reason}"
    return (
        _head(f"GET {path} HTTP/1.1", headers.items()),
        _head(status, answer.getheaders()) + body,
    )


def _head(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


@contextmanager
def _server() -> Iterator[int]:
    """Runs pydoc's server inside the block; yields its port. Raises RunError."""
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-B", "-P", "-S", "-s", str(SERVER)],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert server.stdout is not None
            port = server.stdout.readline()
            if not port.strip().isdigit():
                raise RunError(f"pydoc's server does not start on 127.0.0.1; {INSTEAD}")
            yield int(port)
        finally:
            server.kill()
            server.communicate()


def _environment() -> dict[str, str]:
    """A minimal environment, as pages show it; a fixed hash seed makes the order of sets stable."""
    environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
    if libraries := os.environ.get("LD_LIBRARY_PATH"):  # on clusters Python may not start without
        environment["LD_LIBRARY_PATH"] = libraries
    return environment


def _record(kind: WarcRecordType, content: bytes, uri: str | None = None) -> bytes:
    record = WarcRecord()
    record.init_headers(kind)
    if uri is None:
        record.headers["Content-Type"] = "application/warc-fields"
    else:
        record.headers["WARC-Target-URI"] = uri
        record.is_http = True
    record.set_bytes_content(content)
    written = BytesIO()
    record.write(written, checksum_data=True)
    return written.getvalue()


def _member(record: bytes) -> bytes:
    """Compresses each record separately, so that damage to one does not affect the others."""
    return gzip.compress(record, mtime=0)
