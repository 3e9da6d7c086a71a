"""Settings as they are typed on a command line: in Hydra's grammar, and quoted for the shell."""

from __future__ import annotations

import re
import shlex

_PLAIN = re.compile(r"[\w./@:+%?*-]+(?: [\w./@:+%?*-]+)*", re.ASCII)
_OWN_FOLDER = re.compile(r"hydra\.searchpath=\['file://([^']*)'\]")
_NO_TEXT = re.compile(
    r"null|true|false|[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.I
)


def override(setting: str, value: object) -> str:
    """setting=value as Hydra reads it; texts that its grammar has other uses for in quotes."""
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
    """Words as they can be pasted into a shell, a folder of config files as the flag it came by."""
    typed: list[str] = []
    for word in words:
        folder = _OWN_FOLDER.fullmatch(word)
        typed += ["--config-dir", folder[1]] if folder else [word]
    return shlex.join(typed)


def _quoted(text: str) -> str:
    # In quotes a backslash counts only before a quote, or before others that end there.
    escaped = re.sub(r"(\\*)('|$)", lambda at: 2 * at[1] + ("\\'" if at[2] else ""), text)
    # `${` would be a reference.
    return "'" + re.sub(r"(\\*)\$\{", lambda at: 2 * at[1] + r"\${", escaped) + "'"
