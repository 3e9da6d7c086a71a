"""The text of a web page in a WARC record."""

from __future__ import annotations

import re

from fastwarc.warc import WarcRecord, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

LONGEST = 256 << 20  # bytes: limit on a record's decompressed content
HTML = {"text/html", "application/xhtml+xml"}
PLAIN = "text/plain"
DIGESTS = {"md5", "sha1", "sha256", "sha512"}  # supported by fastwarc; others are not checked

_LINE_ENDS = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_LINES = re.compile(r"\n{3,}")


class Unreadable(Exception):
    """A record is damaged; the message says how."""


def page_text(data: bytes) -> str | None:
    """The text in one WARC record; None if it holds no page.

    A page is a response of status 200 that is HTML or plain text, or the text of one in a
    `conversion` record, as in WET files. Raises Unreadable.
    """
    try:
        record = WarcRecord.from_bytes(data)
    except OSError as error:
        raise Unreadable(f"the record cannot be parsed ({error})") from error
    if record.record_type not in (WarcRecordType.response, WarcRecordType.conversion):
        return None
        # The payload's digest is not checked: crawlers disagree on what it covers.
    algorithm = (record.headers.get("WARC-Block-Digest") or "").partition(":")[0].lower()
    if algorithm in DIGESTS and not record.verify_block_digest():
        raise Unreadable("the record's content does not have its digest")
    if record.record_type == WarcRecordType.conversion:
        return _utf8(record.reader.read())
    return _response(record)


def _utf8(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        reason = f"not UTF-8 (byte 0x{wrong:02x} at {error.start:,} of the record's content)"
        raise Unreadable(reason) from error


def _response(record: WarcRecord) -> str | None:
    if not record.is_http:
        return None
    try:
        record.parse_http(auto_decode="all")
        kind = (record.http_content_type or "").lower()
        if record.http_headers.status_code != 200 or kind not in HTML | {PLAIN}:
            return None
        content = record.reader.read(LONGEST + 1)
    except OSError as error:
        raise Unreadable(f"the page cannot be decoded ({error})") from error
    if len(content) > LONGEST:
        raise Unreadable(f"a page of more than {LONGEST:,} bytes")
    text = _decoded(content, record.http_charset)
    return text if kind == PLAIN else _readable(text)


def _decoded(content: bytes, charset: str | None) -> str:
    """Decodes a page; valid UTF-8 is UTF-8, whatever encoding the page declares.

    ASCII may contain escapes of another encoding (ISO-2022-JP); there the declaration is used.
    """
    if not content.isascii():
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    declared = map_encoding_to_html5((charset or "").strip("\"' "), fallback_utf8=False)
    encoding = declared or detect_encoding(content, from_html_meta=True) or "utf-8"
    # Bytes that the encoding lacks become U+FFFD, as in browsers.
    return bytes_to_str(content, encoding, errors="replace")


def _readable(html: str) -> str:
    """The main text of a page, without the surrounding menus."""
    text = extract_plain_text(
        html,
        main_content=True,
        alt_texts=False,
        links=False,
        form_fields=False,
    )
    text = _LINE_ENDS.sub("", text.replace("\xa0", " "))
    return _BLANK_LINES.sub("\n\n", text).strip()
