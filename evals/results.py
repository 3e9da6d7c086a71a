"""What an evaluation writes. Imports nothing, so that a command that is refused does not wait."""

from __future__ import annotations

RESULTS, HARNESS_RESULTS = "results.json", "harness.json"  # of our tasks, of the harness


def score_text(value: float, error: float) -> str:
    """A score as it is shown everywhere."""
    return f"{value:.1f} ± {error:.1f}"
