"""Text from a stranger: it is read, or told of as damage; nothing of it says where to write."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from configs.settings.network import ModelConfig
from configs.settings.text import CorpusConfig
from corpus.prepare.prepare import prepare

GOOD = "All the soldiers stood together in ranks, and held their shields. " * 60
ELSEWHERE = "../../../elsewhere"


def warc(uri: str, name: str, page: str) -> bytes:
    http = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Disposition: {name}\r\n\r\n{page}"
    )
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {uri}\r\nWARC-Filename: {name}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return f"{head}{http}\r\n\r\n".encode()


def rows() -> bytes:
    good = [{"text": f"{number} {GOOD}", "path": ELSEWHERE} for number in range(30)]
    bad = [{"text": ["x"]}, {"text": 1e308}, {"TEXT": "x"}, [1], None, "text"]
    nested = b"[" * 100_000
    lines = [json.dumps(row).encode() for row in (*good, *bad)]
    return b"\n".join([*lines, nested, b'{"text": "\\ud800"}', b"\x00\xff", b'{"text": "cut'])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in" / "text"
    folder.mkdir(parents=True)
    page = f"<html><script>alert(1)</script><a href='{ELSEWHERE}'>{GOOD}</a>" + "<div>" * 500
    (folder / "rows.jsonl").write_bytes(rows())
    (folder / "rows.jsonl.zst").write_bytes(zstandard.compress(rows()))
    (folder / "zeros.jsonl.gz").write_bytes(gzip.compress(bytes(64 << 20)))
    (folder / "pages.warc").write_bytes(warc("file:///etc/passwd", ELSEWHERE, page))
    (folder / "pages.warc.gz").write_bytes(gzip.compress(warc(ELSEWHERE, ELSEWHERE, page)))
    (folder / "huge.warc").write_bytes(b"WARC/1.0\r\nContent-Length: 999999999999999\r\n\r\nx")
    (folder / "[bold]$(touch mark)`touch mark`.txt").write_text(GOOD)
    return folder


def test_nothing_is_written_outside_of_the_cache(
    corpus: CorpusConfig, model: ModelConfig, folder: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    given = replace(corpus, text=str(folder), max_damaged=1.0, workers=1)
    prepared = prepare(given, model)
    cache = Path(str(corpus.cache))
    new = set(tmp_path.rglob("*")) - {*before, cache}
    assert all(cache in path.parents for path in new)
    source = prepared.sources[0]
    assert source.documents >= 60
    damage = prepared.damaged.read_text()
    for said in (
        "not a JSON object",
        "no field 'text'",
        "half a surrogate",
        "not UTF-8",
        "a record of",
    ):
        assert said in damage, said
    assert source.damaged == len(damage.splitlines())
