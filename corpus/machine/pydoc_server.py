"""pydoc's own HTTP server, run as a script.

It serves on 127.0.0.1, prints its port, and ends when its standard input closes, so it never
outlives the process that started it.
"""

from __future__ import annotations

import os
import pydoc
import re
import sys
import warnings

# What differs between runs, links elsewhere, or describes this machine.
_ADDRESS = re.compile(r"(?: |&nbsp;)(?:at(?: |&nbsp;)0x|handle(?: |&nbsp;))[0-9a-f]{6,}", re.I)
_BAR = re.compile(r"(?<=<body>).*?(?=<div style=\"clear:both)", re.DOTALL)  # versions, menus
_AWAY = re.compile(
    r'<a href="(?:\.|index\.html|file:[^"]*)">[^<]*</a>|<a href="[^"]*">Module Reference</a>'
)
_LIBRARY = os.path.dirname(os.__file__)


def main() -> None:
    """Serves until standard input closes; prints the port, or exits with the server's error."""
    # Modules may print when imported; only the port must be printed.
    stdout, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    server = pydoc._start_server(page, "127.0.0.1", 0)  # type: ignore[attr-defined]
    if server.error:
        sys.exit(f"{server.error}")
    print(server.port, file=stdout, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # modules may have left threads


def page(url: str, content_type: str) -> str:
    """pydoc's page, made the same in each run."""
    html: str = pydoc._url_handler(url, content_type)  # type: ignore[attr-defined]
    return _ADDRESS.sub("", _AWAY.sub("", _BAR.sub("", html))).replace(_LIBRARY, "")


if __name__ == "__main__":
    main()
