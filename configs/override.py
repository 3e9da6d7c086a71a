"""Settings as typed on a command line: in Hydra's grammar, and quoted for the shell."""

from __future__ import annotations

import re
import shlex

_PLAIN = re.compile(r"[\w./@:+%?*-]+(?: [\w./@:+%?*-]+)*", re.ASCII)
_OWN_FOLDER = re.compile(r"hydra\.searchpath=\['file://([^']*)'\]")
_NO_TEXT = re.compile(
    r"null|true|false|[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.I
)


def override(setting: str, value: object) -> str:
    """setting=value as Hydra parses it; quotes text that is special in its grammar."""
    if value is None:
        return f"{setting}=null"
    if isinstance(value, bool):
        return f"{setting}={str(value).lower()}"
    if isinstance(value, list):
        return f"{setting}={str(value).replace(' ', '')}"
    text = str(value)
    read_as_text = not isinstance(value, str) or _NO_TEXT.fullmatch(text) is None
    return f"{setting}={text if read_as_text and _PLAIN.fullmatch(text) else _quoted(text)}"


def shell_command(*words: str) -> str:
    """Words as pasted into a shell, with a folder of config files as its original flag."""
    typed: list[str] = []
    for word in words:
        folder = _OWN_FOLDER.fullmatch(word)
        typed += ["--config-dir", folder[1]] if folder else [word]
    return shlex.join(typed)


def _quoted(text: str) -> str:
    # In quotes a backslash is special only before a quote, or in a run that ends at one.
    escaped = re.sub(r"(\\*)('|$)", lambda at: 2 * at[1] + ("\\'" if at[2] else ""), text)
    # `${` would start a reference.
    return "'" + re.sub(r"(\\*)\$\{", lambda at: 2 * at[1] + r"\${", escaped) + "'"
