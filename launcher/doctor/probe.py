"""`python -m launcher.doctor.probe DEVICE`: tries what a run needs, and tells it line by line.

Each line is an object of JSON: `{"begins": NAME}` before a check, a finding's fields after it,
`{"ends": true}` last. Each is printed at once, so that a check that ends this process is known by
name, and what was found before it stays known.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from launcher.doctor.finding import Finding

LONGEST = 300  # characters of a reason


def main() -> None:
    """Runs every check on the device named in sys.argv."""
    device = sys.argv[1]
    # What libraries print, NCCL's log for one, must not come between the lines.
    lines = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def say(record: dict[str, object]) -> None:
        lines.write(json.dumps(record) + "\n")

    say({"begins": "torch"})
    from launcher.doctor.checks import CHECKS

    for name, check in CHECKS.items():
        say({"begins": name})
        try:
            for finding in check(device):
                say(asdict(finding))
        except Exception as error:
            say(asdict(Finding(name, "failed", in_one_line(error), False)))
            if name == "CUDA":  # the others would only repeat it
                break
    say({"ends": True})


def in_one_line(error: Exception) -> str:
    """The kind of an error and the first lines of its message, of which the second may be it."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(said[:2])}"[:LONGEST].rstrip(": ")


if __name__ == "__main__":
    main()
