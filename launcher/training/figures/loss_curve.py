"""loss.png: the loss curve of the entire run, drawn from its metrics when it ends."""

from __future__ import annotations

import math
from pathlib import Path

from launcher.run.jsonl import read_lines
from launcher.training.callbacks.callback import Callback


class LossCurve(Callback):
    """Draws the loss over all starts of the run."""

    def __init__(self, metrics: Path, picture: Path, title: str) -> None:
        self._metrics = metrics
        self._picture = picture
        self._title = title

    def at_end(self) -> None:
        """Reads the metrics and writes the picture."""
        draw(self._metrics, self._picture, self._title)


def draw(metrics: Path, picture: Path, title: str) -> None:
    """Plots loss on training and held-out text over tokens; does nothing if no step has a loss."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = read_lines(metrics)
    steps = [row for row in rows if row.get("loss") is not None]
    held_out = [row for row in rows if "eval_loss" in row]
    if not steps:
        return
    tokens = {row["step"]: row["tokens"] for row in steps}
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot([row["tokens"] for row in steps], [row["loss"] for row in steps], label="training")
    if held_out:
        seen = [row for row in held_out if row["step"] in tokens]
        axes.plot(
            [tokens[row["step"]] for row in seen],
            [row["eval_loss"] for row in seen],
            "o-",
            label="held out",
        )
    axes.set(xlabel="tokens", ylabel="loss (nats a token)")
    axes.set_title(title, parse_math=False)  # a $ in the name is literal
    bits = axes.secondary_yaxis(
        "right", functions=(lambda nats: nats / math.log(2), lambda bits: bits * math.log(2))
    )
    bits.set_ylabel("bits a token")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
