"""A plan in a few lines of the terminal."""

from __future__ import annotations

from configs.schema import DeviceName
from launcher.console.tables import in_words
from launcher.run.corpus import human
from launcher.run.host_memory import needed_bytes
from parallel.planner.cost import DAY
from parallel.planner.inputs.uncertainty import held_out
from parallel.planner.plan import Plan

_GIB = 2**30


def summary(plan: Plan) -> str:
    """The plan in a few lines: whether it fits, time, speed, cost."""
    run, time, cost, layout = plan.run, plan.time, plan.cost, plan.layout
    peak = plan.memories[plan.fullest].total / _GIB
    limit = plan.machine.memory_bytes / _GIB
    verdict = "fits" if plan.fits else f"DOES NOT FIT; nearest: {_what_would_fit(plan)}"
    active, routed = "", ""
    if plan.shape.moe.experts:
        active = f", {in_words(plan.shape.active_parameters)} of a token"
        routed = f", experts' {_seconds(time.experts)}"
    price, each = "", "GPU" if plan.device is DeviceName.cuda else "rank"
    if cost.dollars is not None:
        dollars = _rounded(cost.dollars) if cost.dollars >= 10 else f"{cost.dollars:.2f}"
        price = f", ${dollars} at ${cost.dollars_per_hour:g} a {each}-hour"
    if run.engine.offload_optimizer:
        verdict += f"; {_in_host_memory(plan)}"
    lines = [
        f"model    {run.model.name}, {in_words(plan.shape.parameters)} parameters{active}",
        f"layout   {layout} on {layout.world_size} x {plan.machine.gpu}, {run.engine.name}, "
        f"{run.precision}",
        f"memory   {peak:,.2f} of {limit:,.1f} GiB a rank, on stage {plan.fullest}: {verdict}",
        f"step     {_seconds(time.seconds)} s: pipeline {_seconds(time.pipeline)} (tensor "
        f"collectives {_seconds(time.tensor)}{routed}), data {_seconds(time.data)}, optimizer "
        f"{_seconds(time.optimizer)}; "
        f"bubble {time.bubble_fraction * 100:.1f} %",
        f"speed    {plan.tflops_per_gpu:,.4g} TFLOPS a rank, MFU {plan.mfu * 100:.1f} %, "
        f"{plan.job.global_batch * plan.shape.context / time.seconds:,.0f} tokens/s",
        f"training {human(cost.tokens)} tokens in {cost.steps:,} steps: {span(cost.days)}, "
        f"{_hours(cost.gpu_hours)} {each}-hours{price}",
        *_with_failures(plan),
        *_sure(plan),
    ]
    if run.cluster.sustained_tflops is not None:
        lines.append(
            f"         days and price at {run.cluster.sustained_tflops:g} TFLOPS sustained"
        )
    on_cuda = plan.device is DeviceName.cuda
    if on_cuda and run.precision == "fp8" and "fp8" not in plan.machine.peak_flops:
        lines.append(f"         {plan.machine.gpu} has no FP8: this plan is one of 16 bits")
    if on_cuda and run.precision == "float32":
        lines.append(
            "         float32 is slow on this GPU; precision=bf16 (or fp16) is planned alike"
        )
    return "\n".join(lines)


def _with_failures(plan: Plan) -> list[str]:
    goodput, energy = plan.goodput, plan.energy
    lines = []
    if goodput is not None:
        price = plan.expected_dollars
        lines.append(
            f"goodput  {goodput.fraction * 100:.4g} %: {span(plan.expected_days)}"
            f"{'' if price is None else f' and ${_rounded(price)}'} expected; a failure every "
            f"{span(goodput.failure / DAY)}, a checkpoint every {goodput.every:,} steps "
            f"({span(goodput.interval / DAY)}), a restart in {span(goodput.restart / DAY)}"
        )
    if energy is not None:
        tonnes = energy.tonnes
        emitted = "" if tonnes is None else f", {_hours(tonnes)} t of CO2"
        lines.append(
            f"energy   {_hours(energy.megawatt_hours)} MWh{emitted}: each node at its stated "
            f"{energy.node_watts:,.0f} W throughout, without cooling"
        )
    return lines


def _in_host_memory(plan: Plan) -> str:
    ranks = plan.run.cluster.gpus_per_node or plan.layout.world_size
    needed = needed_bytes(plan.run, plan.layout, plan.device, ranks) / _GIB
    return (
        f"the optimizer is in host memory, {needed:,.0f} GiB a node, and the time of its updates "
        "there is not in the step: nobody measured it"
    )


def _sure(plan: Plan) -> list[str]:
    """What the plan rests on, and where the step's time lies nine times in ten."""
    basis = f"basis    {plan.basis}"
    if plan.spread is None:
        return [basis]
    low, high = plan.time.seconds / plan.spread.factor, plan.time.seconds * plan.spread.factor
    whose = "your and published" if plan.calibration.errors else "published"
    return [
        basis,
        f"within   {_seconds(low)} to {_seconds(high)} s a step, nine times in ten, by plans of "
        f"{whose} runs;\n         the {plan.spread.nearest} nearest of {len(held_out())} carry "
        "half of the weight",
    ]


def _what_would_fit(plan: Plan) -> str:
    if plan.device is not DeviceName.cuda:
        return "a smaller model or a cluster"
    cluster = plan.run.cluster
    if cluster.nodes * (cluster.gpus_per_node or 1) > 1:
        return "plan.search=true"
    return "more GPUs (cluster=dgx_a100), or a smaller model"


def span(days: float) -> str:
    """Days in the unit that suits them."""
    if days * 24 * 60 < 1:
        return f"{days * 24 * 3600:.0f} seconds"
    if days * 24 < 1:
        return f"{days * 24 * 60:.0f} minutes"
    if days < 1:
        return f"{_hours(days * 24)} hours"
    return f"{days:,.2f} days" if days < 1000 else f"{_rounded(days / 365.25)} years"


def _hours(hours: float) -> str:
    return _rounded(hours) if hours >= 10 else f"{hours:.2f}"


def _seconds(seconds: float) -> str:
    return _rounded(seconds) if seconds >= 1000 else f"{seconds:.4g}"


def _rounded(value: float) -> str:
    """A large number with the four digits that an estimate may have."""
    return f"{float(f'{value:.4g}'):,.0f}"
