from __future__ import annotations

import pytest

from tests.parallel.planner.counted import Counted, count_all
from tests.pool import RankPool


@pytest.fixture(scope="session")
def real(ranks: RankPool) -> Counted:
    """What each rank of each case has and counts, over gloo."""
    return count_all(ranks)
