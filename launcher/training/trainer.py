"""One rank's training: builds everything, loads the checkpoint, adds callbacks, runs the loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

import torch

from configs.errors import RunError
from configs.schema import BadLoss, Run
from configs.words import listed
from corpus.dataset.fingerprint import SampleFingerprint
from corpus.dataset.mixture import Mixture
from corpus.sources.sources import sources_of
from corpus.store.prepared import Prepared, reopen
from launcher.failure.heartbeat import current_status
from launcher.failure.watchdog import Watchdog
from launcher.run.ownership import lease_of_owner
from launcher.run.run_dir import RunFolder, last_step
from launcher.training.broadcast import broadcast_from_rank0
from launcher.training.callbacks.callback import Callback, StepRecord
from launcher.training.callbacks.checkpointer import Checkpoints
from launcher.training.callbacks.console import ProgressBar, ProgressLines
from launcher.training.callbacks.evaluator import Evaluation
from launcher.training.callbacks.garbage import GarbageCollection
from launcher.training.callbacks.metrics import MetricsFile, lacks_evaluation
from launcher.training.callbacks.prediction import PredictionCallback
from launcher.training.callbacks.profiler import Profiler
from launcher.training.callbacks.tensorboard import TensorBoard
from launcher.training.callbacks.wandb import WeightsAndBiases
from launcher.training.callbacks.watchdog import StepsWatched
from launcher.training.data_loader import Batches
from launcher.training.figures.experts import ExpertLoads
from launcher.training.figures.loss_curve import LossCurve
from launcher.training.loop import StepSchedule, train_loop
from launcher.training.loss_spikes import BadLossError, LossGuard, Skips, losses_before
from launcher.training.preflight import preflight
from launcher.training.probe import measure
from launcher.training.resume import load_newest_whole
from launcher.training.sample_audit import SampleIds
from launcher.training.signals import Signals
from launcher.training.stop import Stop
from launcher.training.throughput import Speed
from models.shape import ModelShape, to_json
from parallel.batch_schedule import BatchPlan, steps_of
from parallel.checkpoint import manifest
from parallel.checkpoint.manifest import TrainState
from parallel.checkpoint.store import CheckpointStore
from parallel.engines.base import Engine
from parallel.engines.megatron.model import banded_attention_by
from parallel.engines.running import running_engine
from parallel.layout import Layout
from parallel.lr_schedule import LearningRate
from parallel.runtime.device import Device
from parallel.runtime.process_groups import checkpoint_group

VALIDATION_SEED = 0  # the order of held-out text is always the same


def train_session(
    run: Run,
    folder: RunFolder,
    device: Device,
    terminal: IO[str],
    signals: Signals,
    watchdog: Watchdog,
) -> None:
    """Trains to the run's last step, or until it is stopped. Collective."""
    watchdog.logs = folder.logs
    watchdog.watch("looking at every node", run.launch.start_timeout_s)
    odd = preflight(run, folder, device)
    for line in odd:
        _tell(terminal, line)
    prepared = reopen(folder.read_corpus())
    layout = Layout.resolve(run.layout, None)
    watchdog.note("measuring this machine")
    measure(run, layout, device, last_step(run), partial(_tell, terminal))
    watchdog.note("building the model")
    with running_engine(run, layout, device) as engine:
        watchdog.stop()  # a checkpoint may take any time to read
        _Session(run, layout, folder, device, prepared, engine, signals, terminal, watchdog).train()


def _tell(terminal: IO[str], line: str) -> None:
    """Of rank 0 alone."""
    if torch.distributed.get_rank() == 0:
        print(line, file=terminal, flush=True)


class _Session:
    def __init__(
        self,
        run: Run,
        layout: Layout,
        folder: RunFolder,
        device: Device,
        prepared: Prepared,
        engine: Engine,
        signals: Signals,
        terminal: IO[str],
        watchdog: Watchdog,
    ) -> None:
        self.run = run
        self.terminal = terminal
        self.folder = folder
        self.device = device
        self.layout = layout
        self.prepared = prepared
        self.engine = engine
        self.shape = ModelShape.of(run.model)
        self.rank = torch.distributed.get_rank()
        self.lease = lease_of_owner(folder.path) if self.rank == 0 else None
        self.watchdog = watchdog
        self.store = CheckpointStore(
            folder.checkpoints,
            prepared.tokenizer,
            checkpoint_group() if run.train.async_save else None,
            self.lease.require if self.lease is not None else None,
        )
        self.stop = Stop(signals, folder, device, self.store, self.lease, self._say)
        self.skips = Skips(folder.skips)
        self.shares = {source.name: source.share for source in sources_of(run.corpus)}
        self.place = self.layout.coordinates(self.rank)

    def train(self) -> None:
        by = banded_attention_by(self.run, self.shape, self.device.name)
        if by is not None:
            self._say(f"banded   {self.shape.window} tokens, by {by} attention")
        for notice in self.engine.notices:
            self._say(notice)
        mixture = self._mixture("train", self.run.train.seed)
        counts = self.place.tensor == self.place.context == self.place.pipeline == 0
        ids = SampleIds(mixture, counts=counts, device=self.device)
        if self.rank == 0:
            manifest.clear_unfinished(self.folder.checkpoints)
        requested = self.run.checkpoint
        schedule = self._schedule(ids, None if requested is None else Path(requested))
        batches = self._batches(mixture, ids.consumed)
        speed = Speed(
            self.shape,
            self.layout.world_size,
            self.device,
            self.run.precision,
            self.run.cluster,
        )
        steps = StepsWatched(self.watchdog, self.run.launch.timeout_s)
        callbacks = self._callbacks(schedule, ids)
        prediction = PredictionCallback(
            self.run, self.layout, self.device.name, schedule.first, schedule.last
        )
        # First, so that it counts nothing but the step itself.
        first = [prediction] if self.rank == 0 else []
        callbacks = [*first, steps, *callbacks]
        if self.run.train.collect_every:
            callbacks.append(GarbageCollection(self.run.train.collect_every))
        guard = self._guard(schedule)
        while True:
            try:
                last = train_loop(
                    self.engine, batches, schedule, speed, callbacks, self.stop, guard
                )
                break
            except BadLossError as error:
                schedule = self._past(error, ids)
                for callback in callbacks:
                    callback.on_rollback(schedule.first - 1)
                guard = self._guard(schedule)
        current_status.note("ending")
        if self.rank == 0:
            if self.stop.reason is not None or last == steps_of(self.run):
                self.folder.write_end(last, self.stop.reason)
            for line in prediction.lines():
                self._say(line)
        # Ranks that exit early may bring down others, and rank 0 is still writing.
        torch.distributed.barrier()

    def _say(self, line: str) -> None:
        _tell(self.terminal, line)

    def _schedule(self, ids: SampleIds, checkpoint: Path | None) -> StepSchedule:
        step = samples = 0
        if checkpoint is not None:
            current_status.note("reading a checkpoint")
            checkpoint, state = load_newest_whole(
                self.store, self.engine, checkpoint, self.run, self._say
            )
            step, samples = state.step, state.samples
            ids.go_on_from(state, checkpoint)
        return StepSchedule(
            first=step + 1,
            last=last_step(self.run),
            samples=samples,
            batch_plan=BatchPlan.of(self.run),
            learning_rate=LearningRate.of(self.run),
            seed=self.run.train.seed,
            skipped=frozenset(broadcast_from_rank0(lambda: list(self.skips.read()))),
        )

    def _guard(self, schedule: StepSchedule) -> LossGuard:
        before = schedule.first - 1
        return LossGuard(
            self.run.train, broadcast_from_rank0(lambda: losses_before(self.folder.metrics, before))
        )

    def _past(self, error: BadLossError, ids: SampleIds) -> StepSchedule:
        """Rolls back to the newest checkpoint, and skips the batches that made the loss bad.

        Raises RunError if that is not configured or not possible.
        """
        if self.run.train.on_bad_loss is BadLoss.stop:
            raise RunError(
                f"{error}; nearest: train.on_bad_loss=skip, or go on from an earlier checkpoint "
                "with a lower optimizer.learning_rate"
            )
        with self.watchdog.paused("waiting for a checkpoint"):
            self.store.finish()

        def skip() -> tuple[str, list[int]]:
            newest, _ = manifest.newest_whole(self.folder.checkpoints)
            if newest is None:
                raise RunError(f"{error}; there is no checkpoint yet to go back to")
            back_to = TrainState.read(newest).step
            return str(newest), self.skips.add(error, self.run.train, back_to)

        newest, skipped = broadcast_from_rank0(skip)
        with self.watchdog.paused("going back to a checkpoint"):
            schedule = self._schedule(ids, Path(newest))
        steps = listed(skipped)
        self._say(f"{error}; back to step {schedule.first - 1}; skipped from now on: step {steps}")
        return schedule

    def _mixture(self, part: str, seed: int) -> Mixture:
        return Mixture(
            self.prepared,
            part,
            self.shares,
            context=self.shape.context,
            seed=seed,
            vocab=self.shape.vocab,
        )

    def _batches(self, mixture: Mixture, consumed: SampleFingerprint | None = None) -> Batches:
        return Batches(
            mixture,
            self.layout,
            self.place.data,
            self.device,
            consumed,
            documents=self.run.train.document_mask,
        )

    def _callbacks(self, schedule: StepSchedule, ids: SampleIds) -> list[Callback]:
        """Listeners come before workers, so that a step is recorded before it is saved."""
        run = self.run
        listeners = self._listeners(schedule) if self.rank == 0 else []
        callbacks: list[Callback] = []
        if run.profile.start is not None:
            callbacks.append(
                Profiler(
                    self.folder.path / "profile",
                    self.rank,
                    run.profile.start,
                    run.profile.steps,
                    run.profile.memory_snapshot,
                )
            )
        callbacks += listeners
        # The end of the schedule, not of this start: a stop must leave no trace in the metrics.
        evaluation = Evaluation(self._evaluator(), run.train.eval_every, steps_of(run), listeners)
        callbacks.append(evaluation)
        before = schedule.first - 1
        if broadcast_from_rank0(
            lambda: evaluation.is_due(before) and lacks_evaluation(self.folder.metrics, before)
        ):
            evaluation.of_step(before)
        save = partial(self._save, ids)
        callbacks.append(Checkpoints(save, self._saved, run.train.save_every, schedule.last))
        return callbacks

    def _listeners(self, schedule: StepSchedule) -> list[Callback]:
        """Only rank 0 writes and prints."""
        run, path, before = self.run, self.folder.path, schedule.first - 1
        callbacks: list[Callback] = [MetricsFile(self.folder.metrics, after_step=before)]
        if run.log.tensorboard:
            callbacks.append(TensorBoard(path / "tensorboard", after_step=before))
        if run.log.wandb:
            callbacks.append(WeightsAndBiases(run, path))
        if run.log.progress:
            kind = ProgressBar if self.terminal.isatty() else ProgressLines
            callbacks.append(kind(self.terminal, schedule.first, schedule.last))
        title = f"{run.model.name}, layout {self.layout}"
        callbacks.append(LossCurve(self.folder.metrics, path / "loss.png", title))
        if self.shape.moe.experts:
            callbacks.append(
                ExpertLoads(
                    path / "experts.jsonl",
                    path / "experts.png",
                    title,
                    every=run.log.experts_every,
                    after_step=before,
                )
            )
        return callbacks

    def _evaluator(self) -> Callable[[], float | None]:
        mixture = self._mixture("validation", VALIDATION_SEED)
        batches = self._batches(mixture)
        count, size = self.run.train.eval_batches, self.run.train.global_batch

        def evaluate() -> float | None:
            losses = []
            for number in range(count):
                self.watchdog.note(f"evaluation, batch {number}")
                if self.stop.agreed():
                    return None
                batch = batches.at(number * size, size)
                if number + 1 < count:
                    batches.prepare((number + 1) * size, size)
                losses.append(self.engine.evaluate(batch))
            return sum(losses) / len(losses)

        return evaluate

    def _save(self, ids: SampleIds, record: StepRecord) -> None:
        state = TrainState(
            step=record.step,
            samples=record.samples,
            tokens=record.tokens,
            seed=self.run.train.seed,
            corpus=self.prepared.fingerprint,
            adam_step=self.engine.adam_step(),
            scaler=self.engine.scaler_state(),
            routers=self.engine.router_state(),
            model=to_json(self.shape),
            sample_ids=ids.total(record.samples),
            shares=self.shares,
        )
        with self.watchdog.paused("saving"):
            self.store.begin_save(self.engine, state, keep=self.run.train.keep_checkpoints)

    def _saved(self) -> None:
        with self.watchdog.paused("waiting for a checkpoint"):
            self.store.finish()
