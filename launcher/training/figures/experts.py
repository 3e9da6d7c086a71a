"""experts.jsonl and experts.png: how tokens are spread over the experts of each layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.run.jsonl import read_lines
from launcher.training.callbacks.callback import Callback, StepRecord
from launcher.training.callbacks.metrics import keep_until
from models.training.router_state import Routing

_DIGITS = 5
_SHOWN = 10  # the last rows, whose mean load is drawn


class ExpertLoads(Callback):
    """Appends what the routers of every layer did, every `every` steps; draws it at the end."""

    def __init__(
        self, path: Path, picture: Path, title: str, *, every: int, after_step: int
    ) -> None:
        self._path, self._picture, self._title, self._every = path, picture, title, every
        keep_until(path, after_step)

    def after_step(self, record: StepRecord) -> None:
        """Appends a row, if the step is due."""
        if record.routing is not None and record.step % self._every == 0:
            row = {"step": record.step, "tokens": record.tokens, **_rounded(record.routing)}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def on_rollback(self, step: int) -> None:
        """Drops the rows of steps after `step`."""
        keep_until(self._path, step)

    def at_end(self) -> None:
        """Writes the picture."""
        draw(self._path, self._picture, self._title)


def _rounded(routing: Routing) -> dict[str, Any]:
    def short(values: Sequence[float]) -> list[float]:
        return [round(value, _DIGITS) for value in values]

    return {
        "load": [short(layer) for layer in routing.load],
        "balance_loss": short(routing.balance_loss),
        "z_loss": short(routing.z_loss),
        "entropy": short(routing.entropy),
        "dropped": short(routing.dropped),
    }


def draw(path: Path, picture: Path, title: str) -> None:
    """Each expert's load of late, over an even share; and of each layer over tokens the largest
    load, the router's entropy and the choices that were dropped.

    Does nothing if there is no row.
    """
    import matplotlib
    import numpy as np

    matplotlib.use("agg")
    from matplotlib import pyplot

    rows = read_lines(path) if path.exists() else []
    if not rows:
        return
    loads = np.array([row["load"] for row in rows])  # [rows, layers, experts]
    experts, tokens = loads.shape[2], [row["tokens"] for row in rows]
    drops = any(any(row["dropped"]) for row in rows)
    figure, axes = pyplot.subplots(
        1, 4 if drops else 3, figsize=(16 if drops else 12, 4), layout="constrained"
    )
    late = experts * loads[-_SHOWN:].mean(0)
    image = axes[0].imshow(
        late, aspect="auto", cmap="RdBu_r", vmin=0, vmax=2, interpolation="nearest"
    )
    axes[0].set(xlabel="expert", ylabel="layer with experts", title="load / even share, of late")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].yaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(image, ax=axes[0], extend="max")
    curves = {
        "largest load / even share": experts * loads.max(2),
        "entropy of the router (nats)": np.array([row["entropy"] for row in rows]),
        "choices dropped (%)": 100 * np.array([row["dropped"] for row in rows]),
    }
    for axis, (name, values) in zip(axes[1:], curves.items(), strict=False):
        for layer, curve in enumerate(values.T):
            axis.plot(tokens, curve, label=f"layer {layer}" if len(values.T) <= 8 else None)
        axis.set(xlabel="tokens", title=name)
        axis.grid(alpha=0.3)
    if loads.shape[1] <= 8:
        axes[1].legend(fontsize="small")
    figure.suptitle(title, parse_math=False)  # a $ in the name is literal
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
