"""A model with experts beside a dense one, whose token costs as many operations: the losses.

    python -m benchmarks.experts FOLDER [--figure experts.png]

trains `moe_nano` and the same model without experts on the default corpus, three seeds each, in
FOLDER (runs that are finished there are taken as they are), prints a table and draws the losses
over the operations spent.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from configs.load import read
from launcher.run.jsonl import read_lines
from models.flops import step_flops
from models.shape import ModelShape

SEEDS = (1, 2, 3)
COMMON = ("model=moe_nano", "layout=single", "train.eval_every=50", "train.eval_batches=8")
KINDS = {
    "experts": (),
    "dense": ("model.moe.experts=0", "model.moe.shared=0", "model.moe.bias_rate=0"),
}
LAST = 50  # steps, whose mean training loss is compared


class Curve(NamedTuple):
    """One run, against operations of the model."""

    shape: ModelShape
    operations: list[float]
    losses: list[float]
    held_out: list[tuple[float, float]]  # (operations, loss)
    busiest: float | None  # mean of the last steps' largest load


def main(given: list[str]) -> None:
    """Trains what is missing, and says what came of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args(given)
    curves: dict[str, list[Curve]] = {kind: [] for kind in KINDS}
    for seed in SEEDS:
        for kind, settings in KINDS.items():
            run_dir = options.folder / f"{kind}_{seed}"
            if not (run_dir / "DONE").exists():
                _train(run_dir, options.steps, seed, settings)
            curves[kind].append(_curve(run_dir))
    for line in _table(curves):
        print(line)
    if options.figure:
        _draw(curves, options.figure)


def _train(run_dir: Path, steps: int, seed: int, settings: tuple[str, ...]) -> None:
    own = (f"train.steps={steps}", f"train.seed={seed}", f"run_dir={run_dir}")
    command = [sys.executable, "-m", "launcher", "train", *COMMON, *settings, *own]
    subprocess.run(command, check=True)


def _curve(run_dir: Path) -> Curve:
    run = read(run_dir / "config.yaml")
    shape, batch = ModelShape.of(run.model), run.train.global_batch
    each = step_flops(shape, batch)
    rows = read_lines(run_dir / "metrics.jsonl")
    steps = [row for row in rows if "loss" in row]
    loads = [row["largest_load"] for row in steps[-LAST:] if "largest_load" in row]
    return Curve(
        shape,
        [each * row["step"] for row in steps],
        [row["loss"] for row in steps],
        [(each * row["step"], row["eval_loss"]) for row in rows if "eval_loss" in row],
        fmean(loads) if loads else None,
    )


def _table(curves: dict[str, list[Curve]]) -> list[str]:
    lines = [
        "| | parameters | of a token | operations of a step | training loss, last "
        f"{LAST} steps | held out | busiest expert / even share |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, of_kind in curves.items():
        shape = of_kind[0].shape
        each = of_kind[0].operations[0]
        trained = [fmean(curve.losses[-LAST:]) for curve in of_kind]
        held_out = [curve.held_out[-1][1] for curve in of_kind]
        loads = [curve.busiest for curve in of_kind if curve.busiest is not None]
        busiest = f"{fmean(loads):.2f}" if loads else ""
        lines.append(
            f"| {kind} | {shape.parameters:,} | {shape.active_parameters:,} | {each:.4g} | "
            f"{_spread(trained)} | {_spread(held_out)} | {busiest} |"
        )
    for what, at in (("training", -1), ("held out", -1)):
        gaps = [
            (fmean(one.losses[-LAST:]) - fmean(other.losses[-LAST:]))
            if what == "training"
            else one.held_out[at][1] - other.held_out[at][1]
            for one, other in zip(curves["experts"], curves["dense"], strict=True)
        ]
        lines.append(f"experts less dense, {what}, by seed: " + _listed(gaps))
    saved = [_operations_saved(*pair) for pair in zip(*curves.values(), strict=True)]
    lines.append(
        "operations at which experts reach the dense model's last held-out loss: " + _listed(saved)
    )
    return lines


def _operations_saved(experts: Curve, dense: Curve) -> float:
    """The fraction of all operations after which the held-out loss is the dense one's last."""
    goal = dense.held_out[-1][1]
    before = experts.held_out[0]
    for after in experts.held_out:
        if after[1] <= goal:
            gone = (before[1] - goal) / (before[1] - after[1]) if before[1] > after[1] else 1.0
            return (before[0] + gone * (after[0] - before[0])) / dense.held_out[-1][0]
        before = after
    return float("inf")


def _spread(values: list[float]) -> str:
    return f"{fmean(values):.3f} ± {stdev(values):.3f}"


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _draw(curves: dict[str, list[Curve]], figure: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    picture, axes = pyplot.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for color, (kind, of_kind) in zip(("tab:red", "tab:blue"), curves.items(), strict=True):
        for seed, curve in zip(SEEDS, of_kind, strict=True):
            label = kind if seed == SEEDS[0] else None
            axes[0].plot(*zip(*curve.held_out, strict=True), "o-", color=color, label=label, ms=3)
            means = [
                fmean(curve.losses[end - LAST : end])
                for end in range(LAST, len(curve.losses) + 1, LAST // 2)
            ]
            at = [
                curve.operations[end - 1] for end in range(LAST, len(curve.losses) + 1, LAST // 2)
            ]
            axes[1].plot(at, means, color=color, label=label)
    for axis, title in zip(axes, ("held-out text", f"training, mean of {LAST} steps"), strict=True):
        axis.set(xlabel="operations (FLOP)", ylabel="loss (nats a token)", title=title)
        axis.grid(alpha=0.3)
        axis.legend()
    picture.savefig(figure, dpi=120)
    pyplot.close(picture)


if __name__ == "__main__":
    main(sys.argv[1:])
