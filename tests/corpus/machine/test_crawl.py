from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator

from configs.errors import RunError
from configs.settings.text import MachineText, TextFormat
from corpus.formats import read
from corpus.formats.records import Damage, Record
from corpus.machine import crawl as crawling
from corpus.machine import machine_file
from corpus.machine.crawl import crawl


def pages(path: Path) -> list[str]:
    found = list(read(path, TextFormat.warc, field="text"))
    assert not [each for each in found if isinstance(each, Damage)]
    return [each.text for each in found if isinstance(each, Record)]


def test_the_text_has_the_size_asked_for(crawled: Path) -> None:
    assert 50_000 < sum(len(text.encode()) for text in pages(crawled)) <= 60_000


def test_the_same_machine_gives_the_same_text(crawled: Path, tmp_path: Path) -> None:
    again = machine_file(MachineText.crawl, tmp_path, 60_000, print)
    assert pages(again) == pages(crawled)


def test_a_small_crawl_is_a_mix(crawled: Path) -> None:
    assert len({text[0] for text in pages(crawled)}) > 3


def test_pages_read_as_text(crawled: Path) -> None:
    text = "\n".join(pages(crawled))
    assert "Method resolution order:" in text
    for junk in ("Module Reference", "\xa0", "Topics", str(Path.cwd()), " at 0x", "<a href"):
        assert junk not in text


def test_each_exchange_is_kept_whole(crawled: Path) -> None:
    records = list(ArchiveIterator(crawled.open("rb"), parse_http=False, verify_digests=True))
    kinds = [record.headers["WARC-Type"] for record in records]
    assert kinds == ["warcinfo", *["request", "response"] * (len(kinds) // 2)]
    assert len(kinds) == 1 + 2 * len(pages(crawled))


def test_each_record_is_a_member(crawled: Path) -> None:
    data = crawled.read_bytes()
    members = [start for start in range(len(data)) if data.startswith(b"\x1f\x8b\x08", start)]
    starts = [start for start in members if begins_record(data[start:])]
    assert len(starts) == 1 + 2 * len(pages(crawled))


def begins_record(data: bytes) -> bool:
    try:
        return gzip.GzipFile(fileobj=BytesIO(data)).read(5) == b"WARC/"
    except (OSError, EOFError):
        return False


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        ("raise SystemExit", "pydoc's server does not start on 127.0.0.1"),
        ("print(9, flush=True); input()", "pydoc's server gives no /index.html"),
    ],
)
def test_without_a_server_there_is_one_clear_line(
    server: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "server.py"
    script.write_text(server)
    monkeypatch.setattr(crawling, "SERVER", script)
    with pytest.raises(RunError, match=reason) as caught:
        crawl(BytesIO(), 0, print)
    assert "\n" not in str(caught.value)


def test_no_server_outlives_a_crawl_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "from corpus.machine.crawl import _server\n"
        "with _server() as port: print(port, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert int(parent.stdout.readline())
    (server,) = children(parent.pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    for _ in range(100):
        if not Path(f"/proc/{server}").exists() or is_dead(server):
            return
        time.sleep(0.05)
    pytest.fail("the server lives on")


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in found.split()]


def is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "XZ"
