"""What a resume may change of a run without being asked whether it is meant."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from configs.errors import InputError
from configs.schema import Run
from launcher.run import versions
from launcher.run.changes import changes, keep_schedule, lines, require_meant
from launcher.run.resolve import resolve
from parallel.batch_schedule import BatchPlan
from parallel.checkpoint.manifest import TrainState
from parallel.lr_schedule import LearningRate
from tests.runs import run_of

BEGUN = "layout=single device=cpu train.steps=30 optimizer.warmup_tokens=0"


def resolved(overrides: str) -> Run:
    return resolve(run_of(f"{BEGUN} {overrides}"), {}).run


def state(step: int) -> TrainState:
    samples = step * run_of(BEGUN).train.global_batch
    return TrainState(
        step=step, samples=samples, tokens=0, seed=0, corpus="", adam_step=step, scaler={}, model={}
    )


def meant(now: str) -> None:
    after = resolved(now)
    require_meant(changes(resolved(""), after), 30, after, now.split())


@pytest.mark.parametrize(
    "now",
    [
        "train.global_batch=8",
        "optimizer.learning_rate=0.1",
        "model.recipe.learning_rate=0.1",
        "optimizer.weight_decay=0.2",
        "optimizer.name=muon",
        "optimizer.muon_scale=original",
        "optimizer.warmup_tokens=4096",
        "optimizer.decay_tokens=8192",
        "precision=bf16",
    ],
)
def test_another_training_must_be_meant(now: str) -> None:
    setting = now.partition("=")[0].replace("model.recipe", "optimizer")
    with pytest.raises(InputError, match=f"trained to step 30 with {setting}=.*allow_changes=true"):
        meant(now)
    meant(f"{now} train.allow_changes=true")


@pytest.mark.parametrize(
    "now",
    [
        "train.steps=40",
        "layout.micro_batch=2",
        "layout.tensor=2 engine=deepspeed",
        "log.progress=false train.save_every=7 train.eval_every=3",
        "launch.timeout_s=60 corpus.workers=1",
    ],
)
def test_the_same_training_needs_no_sign(now: str) -> None:
    meant(now)


def test_what_changes_is_shown() -> None:
    found = changes(resolved(""), resolved("layout.tensor=2 engine=deepspeed train.stop_after=9"))
    assert list(lines(found)) == [
        "changed  layout.tensor 1 -> 2",
        "changed  engine.name megatron -> deepspeed",
    ]


def test_a_longer_run_keeps_its_learning_rates() -> None:
    before, now = resolved(""), "train.steps=40"
    plan, asked = resolve(run_of(f"{BEGUN} {now}"), {}), run_of(f"{BEGUN} {now}")
    kept, asked, line = keep_schedule(before, plan, asked, state(30), [now])
    samples, size = state(30).samples, BatchPlan.of(before).global_batch
    assert LearningRate.of(kept.run) == LearningRate.of(before)
    assert asked.optimizer.decay_tokens == kept.run.optimizer.decay_tokens
    floor = before.optimizer.learning_rate * before.optimizer.min_learning_rate_fraction
    assert LearningRate.of(kept.run).of_step(samples, size) == pytest.approx(floor)
    anew = LearningRate.of(plan.run).of_step(samples, size)
    assert anew > 2 * floor
    assert line.startswith("train.steps=40: the learning rate decays as before, to 0.0002 at step")
    assert f"optimizer.decay_tokens=null restarts the decay, to step 40, from {anew:.3g}" in line


@pytest.mark.parametrize("given", ["optimizer.decay_tokens=null", "train.allow_changes=true"])
def test_to_decay_anew_is_said_plainly(given: str) -> None:
    before = resolved("optimizer.decay_tokens=null")
    run = run_of(f"{BEGUN} train.steps=40")
    run = replace(run, train=replace(run.train, allow_changes="allow" in given))
    plan = resolve(run, {})
    assert keep_schedule(before, plan, run, state(30), [given]) == (plan, run, "")
    # Even where an extension before has written the end down.
    earlier = resolved("optimizer.decay_tokens=122880")
    require_meant(changes(earlier, plan.run), 30, plan.run, [given])


WSD = "optimizer.schedule=wsd"


def test_a_longer_wsd_run_is_stable_for_longer() -> None:
    before, now = resolved(WSD), resolved(f"{WSD} train.steps=60")
    plan = resolve(run_of(f"{BEGUN} {WSD} train.steps=60"), {})
    kept, asked, line = keep_schedule(before, plan, now, state(20), ["train.steps=60"])
    assert (kept, asked) == (plan, now)
    assert LearningRate.of(kept.run).decay_begins > LearningRate.of(before).decay_tokens
    assert "stays at 0.002 until step 54, and decays to 0.0002 at step 60" in line


def test_one_that_has_decayed_cannot_be_stable_again() -> None:
    before = resolved(WSD)
    plan = resolve(run_of(f"{BEGUN} {WSD} train.steps=60"), {})
    with pytest.raises(InputError, match="since step 27 the learning rate of this run has decayed"):
        keep_schedule(before, plan, plan.run, state(30), ["train.steps=60"])
    meant = resolve(run_of(f"{BEGUN} {WSD} train.steps=60 train.allow_changes=true"), {})
    assert keep_schedule(before, meant, meant.run, state(30), [])[2] == ""


def test_other_versions_are_told() -> None:
    now = versions.installed()
    assert "torch" in now
    assert versions.changed(json.dumps(now)) == ""
    assert versions.changed("") == ""
    said = versions.changed(json.dumps({**now, "torch": "2.9.1"}))
    assert said == f"versions torch 2.9.1 -> {now['torch']}: sums may round otherwise"
