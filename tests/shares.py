"""How the tests are shared out over processes: by file, and by what must not run beside itself."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SLURM, RANKS = "SLURM", "the pool of ranks"
_USES = {SLURM: r"\bcluster: SlurmCluster\b", RANKS: r"\b(ranks: RankPool|cases: TrainedCases)\b"}


@cache
def group_of(file: str) -> str:
    """Of a test file: what all its users take turns at, or the file itself."""
    path = ROOT / file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return next((name for name, uses in _USES.items() if re.search(uses, text)), file)


def order_of(nodeid: str) -> int:
    """The long groups come first, so that none is left alone at the end."""
    return [SLURM, RANKS, group_of(_file(nodeid))].index(group_of(_file(nodeid)))


def scheduler(config: Any, log: Any) -> Any:
    """Of xdist."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # type: ignore[misc]  # the library is not installed for users
        def _split_scope(self, nodeid: str) -> str:
            return group_of(_file(nodeid))

    return Groups(config, log)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
