"""Power laws as tables, and as a figure like figure 3.1 of Brown et al. (2020)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from evals.scaling import AXES, PowerLaw, Prediction, Trained


def runs_table(
    fitted: Sequence[Trained], asked: Trained, measured: Trained | None, predicted: Prediction
) -> Table:
    """The fitted runs, and the composed run with its loss, measured or predicted."""
    table = Table(title="runs", box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    for heading in ("parameters", "tokens", "tokens a parameter", "PF-days", "held-out loss"):
        table.add_column(heading, justify="right")
    for run in (*fitted, measured or asked):
        loss = f"{run.loss:.4f}" if run.curve else f"{predicted.loss:.4f} predicted"
        table.add_row(
            run.name,
            f"{run.parameters:,}",
            f"{run.tokens:,}",
            f"{run.tokens / run.parameters:.2f}",
            f"{run.compute:.3g}",
            loss,
        )
    return table


def laws_table(laws: dict[str, PowerLaw], confidence: float) -> Table:
    """Scale and exponent of each law with their intervals."""
    table = Table(
        title=f"loss = scale x ^ -exponent, with {confidence:.0%} intervals", box=box.SIMPLE_HEAD
    )
    for heading in ("x", "scale", "exponent"):
        table.add_column(heading, justify="left" if heading == "x" else "right")
    for axis, law in laws.items():
        unit = AXES[axis][0]
        scale = f"{law.scale:.4g} ({law.scale_interval[0]:.4g} to {law.scale_interval[1]:.4g})"
        exponent = "{:.4f} ({:.4f} to {:.4f})".format(law.exponent, *law.exponent_interval)
        table.add_row(f"{axis}, {unit}" if unit else axis, scale, exponent)
    return table


def draw(
    fitted: Sequence[Trained],
    law: PowerLaw,
    asked: Trained,
    measured: Trained | None,
    predicted: Prediction,
    picture: Path,
) -> None:
    """Learning curves over compute, the line through their ends, and the prediction."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    colours = pyplot.get_cmap("viridis")
    runs = [*fitted, *([measured] if measured is not None else [])]
    for number, run in enumerate(runs):
        colour = colours(0.9 * number / max(len(runs) - 1, 1))
        axes.plot(*zip(*run.curve, strict=True), color=colour, linewidth=1.2)
        axes.plot(run.compute, run.loss, "o", color=colour, label=f"{run.name}, {run.parameters:,}")
    ends = [min(it.compute for it in fitted) / 2, asked.compute * 2]
    points = [ends[0] * (ends[1] / ends[0]) ** (place / 50) for place in range(51)]
    said = [law.at(point) for point in points]
    text = f"L = {law.scale:.3g} C^-{law.exponent:.3f}"
    axes.plot(points, [it.loss for it in said], "--", color="black", label=text)
    low, high = [it.low for it in said], [it.high for it in said]
    axes.fill_between(points, low, high, color="black", alpha=0.08)
    label = f"{asked.name}, predicted"
    axes.plot(asked.compute, predicted.loss, "D", mfc="none", color="red", label=label)
    axes.set(xscale="log", yscale="log", xlabel="compute, PF-days", ylabel="loss on held-out text")
    axes.yaxis.set_minor_formatter("{x:.1f}")
    axes.yaxis.set_major_formatter("{x:.1f}")
    legend = axes.legend(fontsize=8, title="model, parameters")
    for entry in legend.get_texts():
        entry.set_parse_math(False)  # a $ in the name is literal
    figure.savefig(picture, dpi=150)
    pyplot.close(figure)
