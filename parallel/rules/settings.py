"""Settings that are wrong whatever the layout: out of range, or inconsistent with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from configs.schema import RateSchedule
from configs.settings.network import AttentionPattern
from configs.words import listed
from parallel.batch_schedule import steps_of
from parallel.lr_schedule import decay_end
from parallel.rules.batch import ramp_is_even
from parallel.rules.case import Case
from parallel.rules.fault import Fault, Rule
from parallel.rules.nearest import to


@dataclass(frozen=True, slots=True)
class Range:
    """The range of a setting; null is not checked if the schema allows it."""

    setting: str
    low: float
    high: float = math.inf
    above_low: bool = False  # excludes low itself
    below_high: bool = False  # excludes high itself
    usual: float | None = None  # suggested if the bound itself is excluded

    def holds(self, value: float) -> bool:
        """Whether the value is in the range; NaN and infinities are not."""
        # Written so that NaN is out of range too.
        over = value > self.low if self.above_low else value >= self.low
        under = value < self.high if self.below_high else value <= self.high
        return over and under and math.isfinite(value)

    def nearest(self, value: float) -> float | None:
        """A suggestion for a value out of range: the bound it passed, or `usual`, or None."""
        too_high = value >= self.high if self.below_high else value > self.high
        bound, out = (self.high, self.below_high) if too_high else (self.low, self.above_low)
        if self.usual is not None and (out or not math.isfinite(value)):
            return self.usual
        return None if out or not math.isfinite(bound) else bound

    def __str__(self) -> str:
        low = f"{'above' if self.above_low else 'at least'} {self.low:g}"
        if math.isinf(self.high):
            return low
        return f"{low} and {'below' if self.below_high else 'at most'} {self.high:g}"


RANGES = (
    *(
        Range(setting, 1)
        for setting in (
            "model.layers",
            "model.hidden",
            "model.heads",
            "model.query_groups",
            "model.head_width",
            "model.feed_forward",
            "model.moe.top_k",
            "model.moe.feed_forward",
            "model.dense_every",
            "model.rotary.factor",
            "model.rotary.original_context",
            "model.vocab",
            "model.context",
            "model.recipe.tokens",
            "layout.tensor",
            "layout.context",
            "layout.expert",
            "layout.expert_tensor",
            "layout.pipeline",
            "layout.data",
            "layout.interleave",
            "layout.micro_batch",
            "cluster.nodes",
            "cluster.gpus_per_node",
            "cluster.link_gpus",
            "launch.timeout_s",
            "launch.start_timeout_s",
            "launch.grace_s",
            "launch.lease_s",
            "launch.jobs",
            "launch.min_nodes",
            "launch.max_idle_starts",
            "launch.cpus_per_task",
            "corpus.workers",
            "corpus.quality.documents",
            "corpus.duplicates.bands",
            "corpus.duplicates.shingle",
            "contamination.max_pieces",
            "contamination.min_n",
            "contamination.max_n",
            "train.steps",
            "train.global_batch",
            "optimizer.annealing_tokens",
            "optimizer.newton_schulz_steps",
            "train.stop_after",
            "train.spike_window",
            "train.skip_batches",
            "train.max_skips",
            "profile.start",
            "profile.steps",
            "log.experts_every",
            "generate.tokens",
            "evaluate.limit",
            "evaluate.tokens_at_once",
            "parity.steps",
            "plan.top",
            "cluster.multiprocessors",
            "cuda.bucket_size",
            "cuda.compile_workers",
        )
    ),
    *(
        Range(setting, 0)
        for setting in (
            "model.moe.experts",
            "model.moe.dense_layers",
            "model.moe.shared",
            "model.moe.balance_weight",
            "model.moe.z_loss",
            "model.moe.bias_rate",
            "optimizer.warmup_tokens",
            "optimizer.ramp_tokens",
            "optimizer.weight_decay",
            "optimizer.clip",
            "train.seed",
            "train.save_every",
            "train.collect_every",
            "train.keep_checkpoints",
            "train.eval_every",
            "train.eval_batches",
            "generate.temperature",
            "generate.seed",
            "generate.beams",
            "evaluate.seed",
            "launch.max_restarts",
            "launch.node",
            "contamination.window",
            "contamination.min_piece",
            "contamination.max_documents",
        )
    ),
    Range("contamination.n", 1, 1000),
    *(
        Range(setting, 0, above_low=True, usual=usual)
        for setting, usual in (
            ("model.norm_epsilon", 1e-5),
            ("model.moe.scale", 1.0),
            ("model.moe.capacity", 1.0),
            ("model.logit_softcap", 30.0),
            ("model.rotary.low_frequency_factor", 1.0),
            ("model.rotary.high_frequency_factor", 4.0),
            ("model.rotary.beta_fast", 32.0),
            ("model.rotary.beta_slow", 1.0),
            ("model.rotary.attention_factor", 1.0),
        )
    ),
    Range("model.rotary.base", 1, above_low=True, usual=10000.0),
    Range("model.rotary.fraction", 0, 1, above_low=True, usual=1.0),
    Range("corpus.quality.features", 2, 1 << 24),
    Range("corpus.duplicates.hashes", 2, 4096),
    Range("corpus.max_damaged", 0, 1),
    Range("corpus.quality.alpha", 0, above_low=True, usual=9),
    Range("corpus.duplicates.similarity", 0, 1, above_low=True, usual=0.8),
    Range("train.spike_factor", 1, above_low=True, usual=2),
    Range("layout.zero", 0, 3),
    Range("launch.port", 1, 65535),
    Range("plan.margin", 0, 1, below_high=True, usual=0.1),
    Range("plan.imbalance", 1),
    # The usual values are an A100's.
    Range("cluster.memory_gib", 0, above_low=True, usual=80),
    Range("cluster.memory_gb_s", 0, above_low=True, usual=2039),
    Range("cluster.link_gb_s", 0, above_low=True, usual=300),
    Range("cluster.network_gb_s", 0, above_low=True, usual=25),
    Range("cluster.node_watts", 0, 1e6, above_low=True, usual=6500),
    Range("cluster.node_failure_hours", 0, 1e9, above_low=True, usual=6335),
    Range("cluster.grams_co2_per_kwh", 0, 1e4, usual=400),
    Range("cluster.dollars_per_hour", 0, 1e6, above_low=True, usual=2),
    Range("cluster.sustained_tflops", 0, above_low=True, usual=140),
    Range("corpus.validation_fraction", 0, 0.5, above_low=True, usual=0.02),
    Range("optimizer.min_learning_rate_fraction", 0, 1),
    Range("optimizer.learning_rate", 0, above_low=True, usual=6e-4),
    Range("optimizer.beta1", 0, 1, below_high=True, usual=0.9),
    Range("optimizer.beta2", 0, 1, below_high=True, usual=0.95),
    Range("optimizer.momentum", 0, 1, below_high=True, usual=0.95),
    Range("optimizer.epsilon", 0, above_low=True, usual=1e-8),
    Range("optimizer.loss_scale", 0, above_low=True, usual=65536.0),
    Range("scaling.confidence", 0, 1, above_low=True, below_high=True, usual=0.95),
    Range("generate.top_p", 0, 1, above_low=True, usual=0.95),
)


def every_setting_is_in_range(case: Case) -> Iterator[Fault]:
    """Each number is within the range that RANGES gives its setting."""
    for allowed in RANGES:
        value = case.value(allowed.setting)
        if not isinstance(value, int | float) or allowed.holds(value):
            continue
        near = allowed.nearest(value)
        whole = isinstance(value, int) and near is not None and float(near).is_integer()
        yield Fault(
            setting=allowed.setting,
            why=f"has to be {allowed}",
            source="what the setting means",
            fixes=() if near is None else (to({allowed.setting: int(near) if whole else near}),),
        )


def every_peak_is_positive(case: Case) -> Iterator[Fault]:
    """The peaks that the cluster names are finite and above 0."""
    wrong = {
        name: peak for name, peak in case.run.cluster.peak_tflops.items() if not 0 < peak < math.inf
    }
    if wrong:
        yield Fault(
            setting="cluster.peak_tflops",
            why=f"{listed([f'{name} {peak:g}' for name, peak in wrong.items()])} TFLOPS "
            "cannot be the peak of a GPU",
            source="what the setting means",
        )


def window_fits_the_context(case: Case) -> Iterator[Fault]:
    """If layers are banded, the window is from 1 to the context in tokens."""
    model = case.run.model
    banded = any(case.shape.is_banded(layer) for layer in range(min(model.layers, 2)))
    if banded and model.context >= 1 and not 1 <= model.window <= model.context:
        yield Fault(
            setting="model.window",
            why=f"a banded layer sees between 1 and all {model.context} tokens of the context",
            source="Child et al. 2019, banded attention",
            fixes=(
                to({"model.window": min(max(model.window, 1), model.context)}),
                to({"model.attention": AttentionPattern.dense}),
            ),
        )


def decay_ends_after_the_warmup(case: Case) -> Iterator[Fault]:
    """A decay given in tokens ends after the warm-up."""
    optimizer = case.run.optimizer
    if optimizer.decay_tokens is None or optimizer.decay_tokens > optimizer.warmup_tokens:
        return
    yield Fault(
        setting="optimizer.decay_tokens",
        why=f"the decay ends by token {optimizer.decay_tokens} and the warm-up only by token "
        f"{optimizer.warmup_tokens}",
        source="Megatron-core optimizer_param_scheduler.py",
        fixes=(
            to({"optimizer.decay_tokens": None}),
            to({"optimizer.warmup_tokens": max(optimizer.decay_tokens - 1, 0)}),
        ),
    )


def annealing_fits(case: Case) -> Iterator[Fault]:
    """WSD's decay fits between the warm-up and its end; nothing else has one."""
    optimizer = case.run.optimizer
    given = optimizer.annealing_tokens
    if given is None:
        return
    if optimizer.schedule is not RateSchedule.wsd:
        yield Fault(
            setting="optimizer.annealing_tokens",
            why=f"optimizer.schedule={optimizer.schedule} has no part that it could be",
            source="a setting without effect is an error",
            fixes=(
                to({"optimizer.annealing_tokens": None}),
                to({"optimizer.schedule": RateSchedule.wsd}),
            ),
        )
    elif case.run.train.steps is None and (
        not ramp_is_even(case) or case.run.model.recipe.tokens < 1
    ):
        return  # the run has no length
    elif given >= 1 and optimizer.warmup_tokens + given > (end := decay_end(case.run)):
        room = end - optimizer.warmup_tokens
        yield Fault(
            setting="optimizer.annealing_tokens",
            why=f"it follows the warm-up of {optimizer.warmup_tokens} tokens, and ends by "
            f"token {end}",
            source="Megatron-core optimizer_param_scheduler.py, WSD",
            fixes=(
                *([to({"optimizer.annealing_tokens": room})] if room >= 1 else []),
                to({"optimizer.annealing_tokens": None}),
            ),
        )


def evaluation_has_batches(case: Case) -> Iterator[Fault]:
    """Periodic evaluation needs at least one batch."""
    train = case.run.train
    if train.eval_every > 0 and train.eval_batches == 0:
        yield Fault(
            setting="train.eval_batches",
            why=f"every {train.eval_every} steps (train.eval_every) there is nothing to evaluate",
            source="what the setting means",
            fixes=(to({"train.eval_batches": 1}), to({"train.eval_every": 0})),
        )


def steps_named_are_steps_of_the_run(case: Case) -> Iterator[Fault]:
    """The steps to stop after and to profile from are steps of the run."""
    run = case.run
    if run.train.steps is None and (not ramp_is_even(case) or run.model.recipe.tokens < 1):
        return
    steps = steps_of(run)
    for setting in ("train.stop_after", "profile.start"):
        step = case.value(setting)
        if isinstance(step, int) and step > steps >= 1:
            yield Fault(
                setting=setting,
                why=f"the run has only {steps} steps",
                source="a setting without effect is an error",
                fixes=(to({setting: steps}), to({setting: None})),
            )


RULES: tuple[Rule, ...] = (
    every_setting_is_in_range,
    every_peak_is_positive,
    window_fits_the_context,
    decay_ends_after_the_warmup,
    annealing_fits,
    evaluation_has_batches,
    steps_named_are_steps_of_the_run,
)
