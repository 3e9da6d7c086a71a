"""What is printed before training: who holds what, and what is about to happen."""

from __future__ import annotations

import io
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from configs.schema import Run
from corpus.store.prepared import Prepared
from launcher.console.tables import in_words, print_table
from launcher.run.corpus import corpus_name, human
from launcher.run.resolve import ResolvedRun
from launcher.run.run_dir import last_step
from models.shape import ModelShape
from parallel.batch_schedule import BatchPlan
from parallel.layout import Layout
from parallel.parameter_count import rank_parameters

_ROWS = 16  # of a large world only the first ranks are shown; layout.txt lists all of them


def shown(path: Path) -> str:
    """The shortest form of a path that can be typed here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def layout_table(shape: ModelShape, layout: Layout, rows: int | None = _ROWS) -> Table:
    """The layers and parameters of each rank; `rows` None: all ranks."""
    table = Table(title=_title(layout), box=box.SIMPLE_HEAD)
    split, dealt = layout.context > 1, layout.expert > 1 or layout.expert_tensor > 1
    context = ("context",) if split else ()
    experts = ("experts",) if dealt else ()
    axes = ("tensor", *context, "pipeline", "data", *experts)
    for heading in ("rank", *axes, "layers", "parameters"):
        table.add_column(heading, justify="right" if heading != "layers" else "left")
    shown = range(layout.world_size if rows is None else min(rows, layout.world_size))
    for rank in shown:
        at = layout.coordinates(rank)
        table.add_row(
            str(rank),
            str(at.tensor),
            *([str(at.context)] if split else []),
            str(at.pipeline),
            str(at.data),
            *([_experts(shape, layout, rank)] if dealt else []),
            _layers(shape, layout, at.pipeline),
            f"{rank_parameters(shape, layout, at.pipeline):,}",
        )
    if len(shown) < layout.world_size:
        more = f"and {layout.world_size - len(shown)} more"
        table.add_row("...", *[""] * len(axes), more, "")
    return table


def layout_text(shape: ModelShape, layout: Layout) -> str:
    """The table of all ranks as text, 100 columns wide."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=100, markup=False)
    print_table(console, layout_table(shape, layout, rows=None))
    return buffer.getvalue()


def _layers(shape: ModelShape, layout: Layout, stage: int) -> str:
    pieces = [
        str(layers.start) if len(layers) == 1 else f"{layers.start}-{layers.stop - 1}"
        for layers in layout.layers_on(stage, shape.layers)
    ]
    if stage == 0:
        pieces.insert(0, "embedding")
    if stage == layout.logits_stage:
        pieces.append("logits")
    return ", ".join(pieces)


def _experts(shape: ModelShape, layout: Layout, rank: int) -> str:
    """Those that a rank holds of each layer; and of how many ranks that share them it is which."""
    own = layout.experts_of(rank, shape.moe.experts)
    held = str(own.start) if len(own) == 1 else f"{own.start}-{own.stop - 1}"
    if layout.expert_tensor == 1:
        return held
    return f"{held}, part {layout.expert_coordinates(rank).expert_tensor}"


def run_summary(plan: ResolvedRun, prepared: Prepared | None, folder: Path) -> str:
    """`prepared` None: the corpus is still to be prepared."""
    run = plan.run
    text = "not prepared"
    if prepared is not None:
        text = (
            f"{human(prepared.train_tokens)} tokens to train on, "
            f"{human(prepared.validation_tokens)} held out"
        )
    batch = BatchPlan.of(run)
    steps = last_step(run)
    samples = batch.samples_after(steps)
    tokens = samples * run.model.context
    return (
        f"model    {run.model.name}, {in_words(plan.shape.parameters)} parameters{_active(plan)}, "
        f"{run.model.attention} attention{_groups(plan)}\n"
        f"corpus   {corpus_name(run)}, {text}\n"
        f"training {steps:,} steps of {_batch(run)} x {run.model.context} tokens = "
        f"{human(tokens)} tokens\n"
        f"recipe   {_optimizer(run)}\n"
        f"engine   {run.engine.name} on {plan.device}, {run.precision}\n"
        f"run      {folder}"
    )


def _groups(plan: ResolvedRun) -> str:
    """How many heads share keys and values; nothing where none do."""
    heads, groups = plan.shape.heads, plan.shape.query_groups
    return f", {heads} heads in {groups} groups" if groups < heads else ""


def _active(plan: ResolvedRun) -> str:
    """The parameters of a token, and the experts that it is sent to."""
    moe = plan.shape.moe
    if not moe.experts:
        return ""
    active = in_words(plan.shape.active_parameters)
    return f" ({active} of a token: {moe.top_k} of {moe.experts} experts)"


def _optimizer(run: Run) -> str:
    optimizer = run.optimizer
    return (
        f"optimizer {optimizer.name}, learning rate {optimizer.learning_rate:g}, "
        f"{optimizer.schedule}, weight decay {optimizer.weight_decay:g}"
    )


def _batch(run: Run) -> str:
    """The global batch in samples; with a batch ramp, its start and its length."""
    optimizer, size = run.optimizer, run.train.global_batch
    if not optimizer.ramp_tokens or optimizer.ramp_start >= size:
        return str(size)
    return f"{optimizer.ramp_start} to {size} (over {human(optimizer.ramp_tokens)} tokens)"


def _title(layout: Layout) -> str:
    folded = ", DualPipeV" if layout.dualpipev else ""
    ranks = "rank" if layout.world_size == 1 else "ranks"
    split = f", context by {layout.context_by}" if layout.context_by else ""
    sizes = str(layout).count("x") + 1
    axes = " x ".join(("tensor", "pipeline", "interleave", "data")[:sizes])
    return f"layout {layout}{folded}{split}: {layout.world_size} {ranks} ({axes})"
