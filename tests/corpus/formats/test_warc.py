from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from io import BytesIO
from itertools import accumulate
from pathlib import Path

import pytest
import zstandard
from fastwarc.warc import WarcRecord, WarcRecordType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.formats import pages, streams, warc
from corpus.formats.records import Damage, Record, texts
from corpus.formats.warc import read_warc

HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
SUFFIXES = ["", ".gz", ".zst"]


def record(content: bytes, kind: WarcRecordType = WarcRecordType.response) -> bytes:
    made = WarcRecord()
    made.init_headers(kind)
    made.headers["WARC-Target-URI"] = "http://example.org/"
    made.is_http = kind == WarcRecordType.response
    made.set_bytes_content(content)
    written = BytesIO()
    made.write(written, checksum_data=True)
    return written.getvalue()


def page(number: int) -> bytes:
    # Words that hardly compress, so that a member can be damaged in its middle.
    words = " ".join(str(7919**power % (10**9 + number)) for power in range(1, 40))
    return record(HTML + f"<p>page {number}</p><p>{words}</p>".encode())


PAGES = [page(number) for number in range(5)]


def packed(suffix: str, data: bytes) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data, mtime=0)
    return zstandard.ZstdCompressor(write_checksum=True).compress(data) if suffix else data


def written(folder: Path, suffix: str, stretches: Sequence[bytes]) -> tuple[Path, list[int]]:
    """A file of these stretches and where each begins."""
    path = folder / f"a.warc{suffix}"
    path.write_bytes(b"".join(stretches))
    return path, [0, *accumulate(len(each) for each in stretches)][:-1]


def summary(path: Path) -> tuple[list[str], list[Damage]]:
    """The first lines of the records, and the damage."""
    found = list(read_warc(path))
    return (
        [each.text.splitlines()[0] for each in found if isinstance(each, Record)],
        [each for each in found if isinstance(each, Damage)],
    )


def one(folder: Path, content: bytes, kind: WarcRecordType = WarcRecordType.response) -> list[str]:
    path, _ = written(folder, "", [record(content, kind)])
    found = list(read_warc(path))
    assert not [each for each in found if isinstance(each, Damage)]
    return list(texts(found))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_records_come_in_order_with_their_places(
    suffix: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BLOCK", block)
    path, starts = written(tmp_path, suffix, [packed(suffix, each) for each in PAGES])
    found = [each for each in read_warc(path) if isinstance(each, Record)]
    assert [each.text.splitlines()[0] for each in found] == [f"page {n}" for n in range(5)]
    assert [each.position for each in found] == [f"byte {start:,}" for start in starts]


def test_many_records_may_share_a_member(tmp_path: Path) -> None:
    first = gzip.compress(b"".join(PAGES[:2]), mtime=0)
    path, _ = written(tmp_path, ".gz", [first, gzip.compress(b"".join(PAGES[2:]), mtime=0)])
    found = [each for each in read_warc(path) if isinstance(each, Record)]
    assert [each.position for each in found] == [
        "byte 0",
        f"byte {len(PAGES[0]):,}",
        f"byte {len(first):,}",
        f"byte {len(first):,} + {len(PAGES[2]):,}",
        f"byte {len(first):,} + {len(PAGES[2]) + len(PAGES[3]):,}",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda page: re.sub(rb"Content-Length: \d", b"Content-Length: 9", page),
        lambda page: re.sub(rb"Content-Length: \d", b"Content-Length: 999999", page),
        lambda page: re.sub(rb"Content-Length: \d", b"Content-Length: ", page),
        lambda page: re.sub(rb"(Content-Length): \d+", rb"\1: many", page),
        lambda page: re.sub(rb"Content-Length: \d+\r\n", b"", page),
        lambda page: re.sub(rb"Content-Length: \d+", b"Content-Length: 999999999999", page),
        lambda page: page.replace(b"page 2", b"page 7"),
        lambda page: page[:-200],
        lambda page: page[:100],
        lambda page: page.replace(b"WARC/", b"WORC/"),
        lambda page: bytes(70_000),
        lambda page: b"garbage",
    ],
    ids=[
        "length too large",
        "length beyond the file",
        "length too small",
        "length no number",
        "no length",
        "length beyond measure",
        "wrong digest",
        "cut short",
        "cut in the header",
        "no record",
        "zeros",
        "garbage",
    ],
)
@pytest.mark.parametrize("packed_whole", [True, False])
def test_a_damaged_record_is_told_and_the_next_is_found(
    damage: object, packed_whole: bool, tmp_path: Path
) -> None:
    assert callable(damage)
    stretches = [*PAGES[:2], damage(PAGES[2]), *PAGES[3:]]
    for suffix in SUFFIXES if packed_whole else SUFFIXES[1:]:
        if packed_whole:
            path, starts = written(tmp_path, "", stretches)
            path = path.with_suffix(f".warc{suffix}")
            path.write_bytes(packed(suffix, b"".join(stretches)))
        else:
            path, starts = written(tmp_path, suffix, [packed(suffix, each) for each in stretches])
        pages_found, told = summary(path)
        assert pages_found == ["page 0", "page 1", "page 3", "page 4"]
        assert [each.position for each in told] == [f"byte {starts[2]:,}"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda member: member[:-5] + bytes([member[-5] ^ 1]) + member[-4:],
        lambda member: member[:-1] + bytes([member[-1] ^ 1]),
        lambda member: member[:150] + bytes(20) + member[170:],
        lambda member: b"\0\0\0\0" + member[4:],
        lambda member: b"abcd" + member[4:],
        lambda member: member[:-2],
        lambda member: member[:20],
        lambda member: b"garbage between members",
    ],
    ids=["sum", "tail", "middle", "zeroed", "magic", "end", "cut", "garbage"],
)
def test_a_damaged_member_is_told_and_the_next_is_found(
    damage: object, suffix: str, tmp_path: Path
) -> None:
    assert callable(damage)
    members = [packed(suffix, each) for each in PAGES]
    path, starts = written(tmp_path, suffix, [*members[:2], damage(members[2]), *members[3:]])
    pages_found, told = summary(path)
    assert pages_found == ["page 0", "page 1", "page 3", "page 4"]
    assert len(told) == 1
    # Zeros at the start of a member are taken for padding of the one before.
    assert starts[2] <= int(told[0].position.removeprefix("byte ").replace(",", "")) < starts[3]


def test_a_record_that_lost_bytes_takes_none_of_the_next(tmp_path: Path) -> None:
    """Were it read to its Content-Length, it could end at a gap within the next record."""
    end_of_header = PAGES[3].index(b"\r\n\r\n")
    for short in range(len(PAGES[3])):
        harmed = PAGES[2][: len(PAGES[2]) - 4 - short] + b"\r\n\r\n"
        if short in (end_of_header + 4, 364) or short % 37 == 0:
            path, _ = written(tmp_path, "", [*PAGES[:2], harmed, *PAGES[3:]])
            assert summary(path)[0][-2:] == ["page 3", "page 4"], short


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(SUFFIXES), st.data())
def test_bytes_gone_wrong_harm_no_other_record(
    tmp_path: Path, suffix: str, data: st.DataObject
) -> None:
    members = [packed(suffix, each) for each in PAGES]
    place = st.integers(0, len(members[2]) - 1)
    start, stop = sorted([data.draw(place), data.draw(place)])
    wrong = data.draw(st.binary(max_size=40))
    harmed = members[2][:start] + wrong + members[2][stop:]
    path, _ = written(tmp_path, suffix, [*members[:2], harmed, *members[3:]])
    found, told = summary(path)
    assert [each for each in found if each != "page 2"][:2] == ["page 0", "page 1"]
    assert found[-2:] == ["page 3", "page 4"]
    # The header of a plain record has no checksum, nor has that of a member.
    if suffix and start > 20 and harmed != members[2]:
        assert told


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("left", [3, 60, 300])
def test_the_last_record_of_a_file_cut_short_is_told(
    left: int, suffix: str, tmp_path: Path
) -> None:
    members = [packed(suffix, each) for each in PAGES]
    path, starts = written(tmp_path, suffix, [*members[:-1], members[-1][:left]])
    pages_found, told = summary(path)
    assert pages_found == ["page 0", "page 1", "page 2", "page 3"]
    assert [each.position for each in told] == [f"byte {starts[-1]:,}"]


def test_the_gap_after_the_last_record_may_be_missing(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "", [PAGES[0], PAGES[1].removesuffix(b"\r\n\r\n")])
    assert summary(path) == (["page 0", "page 1"], [])


def test_a_record_too_long_is_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warc, "LONGEST", len(PAGES[0]))
    monkeypatch.setattr(streams, "BLOCK", 50)
    long = record(HTML + b"<p>" + b"long " * 1000)
    path, starts = written(tmp_path, "", [PAGES[0], long, PAGES[1]])
    pages_found, told = summary(path)
    assert pages_found == ["page 0", "page 1"]
    assert [each.position for each in told] == [f"byte {starts[1]:,}"]
    assert "the longest that is read has" in told[0].reason


def test_records_that_hold_no_page_are_passed_over(tmp_path: Path) -> None:
    kinds = [WarcRecordType.warcinfo, WarcRecordType.request, WarcRecordType.metadata]
    others = [record(b"GET / HTTP/1.1\r\n\r\n", kind) for kind in kinds]
    missing = record(HTML.replace(b"200 OK", b"404 Not Found") + b"nothing")
    image = record(HTML.replace(b"text/html", b"image/png") + b"\x89PNG")
    path, _ = written(tmp_path, "", [*others, missing, image, PAGES[0]])
    assert summary(path) == (["page 0"], [])


def test_text_of_a_wet_file_is_as_it_is(tmp_path: Path) -> None:
    text = "Ein Beispiel\n\xa0 — né 北京\n"
    assert one(tmp_path, text.encode(), WarcRecordType.conversion) == [text]


def test_text_of_a_wet_file_that_is_not_utf8_is_damaged(tmp_path: Path) -> None:
    path, _ = written(tmp_path, "", [record(b"caf\xe9", WarcRecordType.conversion)])
    (damage,) = read_warc(path)
    reason = "not UTF-8 (byte 0xe9 at 3 of the record's content)"
    assert damage == Damage(path, "byte 0", reason)


def test_a_page_reads_as_running_text(tmp_path: Path) -> None:
    menu = b"<nav><ul><li><a href=/>Home</a></li><li><a href=/b>Blog</a></li></ul></nav>"
    script = b"<script>var a;</script><style>p {}</style>"
    body = b"<h1>Bread</h1><p>Is made&nbsp;from <b>flour</b> &amp; water.</p>\n\n\n<p>Try it. </p>"
    image = b'<img alt="a loaf"><form><input value="Go"></form>'
    html = b"<html><head>" + script + b"</head><body>" + menu + body + image + b"</body></html>"
    assert one(tmp_path, HTML + html) == ["Bread\n\nIs made from flour & water.\n\nTry it."]


@pytest.mark.parametrize(
    ("head", "content", "text"),
    [
        (b"text/html", "<p>café".encode(), "café"),
        (b"text/html; charset=iso-8859-1", "<p>café 北京".encode(), "café 北京"),
        (b'Text/HTML; Charset="ISO-8859-1"', b"<p>caf\xe9 \x93so\x94", "café “so”"),
        (b"text/html", "<meta charset=windows-1251><p>Привет".encode("cp1251"), "Привет"),
        (b"text/html; charset=iso-2022-jp", "<p>日本".encode("iso-2022-jp"), "日本"),
        (b"text/html; charset=nonsense", b"<p>plain", "plain"),
        (b"application/xhtml+xml", b"<p>strict</p>", "strict"),
        (b"text/plain; charset=utf-8", "<p>né\r\n".encode(), "<p>né\r\n"),
    ],
)
def test_a_page_is_decoded(head: bytes, content: bytes, text: str, tmp_path: Path) -> None:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: " + head + b"\r\n\r\n"
    assert one(tmp_path, http + content) == [text]


def test_a_compressed_page_is_unpacked(tmp_path: Path) -> None:
    packed_page = gzip.compress(b"<p>words</p>")
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed_page), packed_page)
    head = HTML[:-2] + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert one(tmp_path, head + chunks) == ["words"]


def test_a_page_that_cannot_be_unpacked_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LONGEST", 1000)
    head = HTML[:-2] + b"Content-Encoding: gzip\r\n\r\n"
    bomb = record(head + gzip.compress(bytes(1001)))
    path, _ = written(tmp_path, "", [record(head + b"no gzip"), bomb, PAGES[0]])
    pages_found, (broken, large) = summary(path)
    assert pages_found == ["page 0"]
    assert broken.reason.startswith("the page cannot be decoded (Gzip")
    assert large.reason == "a page of more than 1,000 bytes"
