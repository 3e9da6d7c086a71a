"""The input of the rules: a run and the ranks it gets, with a way to try changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from configs.schema import LaunchName, Run
from models.shape import ModelShape
from parallel.engines.registry import ENGINES, EngineKind
from parallel.layout import AXES, Layout


@dataclass(frozen=True)
class Case:
    """A run with the number and kind of its devices."""

    run: Run
    ranks: int | None  # available; None: as many as requested may be started
    device: str  # cpu or cuda

    @classmethod
    def of(cls, run: Run, layout: Layout, ranks: int | None, device: str) -> Case:
        """`layout` replaces `run.layout`; its data size stays derived if it was."""
        config = layout.as_config()
        if run.layout.data is None:
            derived = cls(replace(run, layout=replace(config, data=None)), ranks, device)
            if derived.layout.data == layout.data:
                return derived
        return cls(replace(run, layout=config), ranks, device)

    @cached_property
    def layout(self) -> Layout:
        """The layout, with its data size derived from the ranks if not given."""
        config = self.run.layout
        whole = all(getattr(config, axis) >= 1 for axis in AXES if axis != "data")
        return Layout.resolve(config, self.ranks if whole else None)

    @cached_property
    def shape(self) -> ModelShape:
        """The shape of the run's model."""
        return ModelShape.of(self.run.model)

    @property
    def model_ranks(self) -> int:
        """Ranks that hold one copy of the model between them."""
        return self.layout.model_ranks

    @property
    def interleaved(self) -> bool:
        """Whether stages of a pipeline hold several chunks each."""
        return self.layout.interleave > 1 and self.layout.pipeline > 1

    @property
    def engine(self) -> EngineKind:
        """What the run's engine can do."""
        return ENGINES[self.run.engine.name]

    @property
    def cluster_ranks(self) -> int | None:
        """The ranks in the cluster settings; None on CPU, where ranks are only processes."""
        cluster = self.run.cluster
        if self.device != "cuda" or cluster.gpus_per_node is None:
            return None
        return cluster.nodes * cluster.gpus_per_node

    @property
    def nodes_can_change(self) -> bool:
        """Whether more nodes in the cluster settings would mean more available ranks."""
        if self.cluster_ranks is None or self.run.launch.name is LaunchName.torchrun:
            return False
        return self.ranks is None or self.ranks == self.cluster_ranks

    def value(self, setting: str) -> object:
        """The value of a setting by its dotted name, as in layout.tensor."""
        node: object = self.run
        for name in _path(setting):
            node = getattr(node, name)
        return node

    def changed(self, change: Mapping[str, object]) -> Case:
        """The case after some overrides; ranks derived from the cluster settings are updated."""
        run = self.run
        for setting, value in change.items():
            run = _replaced(run, _path(setting), value)
        after = Case(run, self.ranks, self.device)
        if self.ranks is not None and self.nodes_can_change:
            return replace(after, ranks=after.cluster_ranks)
        return after


def _path(setting: str) -> list[str]:
    # A group setting is replaced by its name: `engine=deepspeed` selects the file of that name.
    return ["engine", "name"] if setting == "engine" else setting.split(".")


def _replaced(node: Any, path: list[str], value: object) -> Any:
    head, *rest = path
    return replace(node, **{head: _replaced(getattr(node, head), rest, value) if rest else value})
