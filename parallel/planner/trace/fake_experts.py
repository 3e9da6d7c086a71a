"""An even choice of experts in a fake world, where a choice has no values.

Sizes then are numbers: every expert gets its share of each rank's rows. Megatron-core's dispatchers
run as they are, but for what they read from a device: how many rows go where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from megatron.core.tensor_parallel import mappings
from megatron.core.transformer.moe.token_dispatcher import (
    MoEAllGatherTokenDispatcher,
    MoEAlltoAllTokenDispatcher,
)
from torch.utils._python_dispatch import TorchDispatchMode

from configs.schema import DeviceName
from models.shape import ModelShape
from models.training.router_state import RouterState
from parallel.engines.megatron import config
from parallel.layout import Layout
from parallel.planner.communication.experts import routed_rows, routed_tokens
from parallel.planner.trace.fake_world import replace

_CHOSEN = torch.ops.aten.masked_select.default


@contextmanager
def even_choices(shape: ModelShape, layout: Layout, device: DeviceName) -> Iterator[None]:
    """Lets engines with experts be built and run in a fake world; does nothing without experts."""
    if not shape.moe.experts:
        yield
        return
    rows, tokens = routed_rows(shape, layout), routed_tokens(shape, layout)
    shares = _even(rows, shape.moe.experts)
    with ExitStack() as undo:
        replace(
            undo,
            MoEAlltoAllTokenDispatcher,
            "preprocess",
            _told(MoEAlltoAllTokenDispatcher.preprocess, shares),
        )
        replace(
            undo,
            MoEAllGatherTokenDispatcher,
            "dispatch_postprocess",
            _counted(MoEAllGatherTokenDispatcher.dispatch_postprocess),
        )
        replace(undo, config, "RouterState", _on_cpu)
        if device is DeviceName.cuda:
            # The CPU bridge exchanges parts of given sizes; these are even.
            for name in ("_gather_along_first_dim", "_reduce_scatter_along_first_dim"):
                replace(undo, mappings, name, _of_even_parts(getattr(mappings, name)))
        undo.enter_context(_Choices(rows / (tokens * shape.moe.experts)))
        yield


class _Choices(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Says how many places of a mask are chosen: a given part of them."""

    def __init__(self, part: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._part = part

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _CHOSEN:
            values, mask = args
            return values.new_empty(round(mask.numel() * self._part))
        return func(*args, **(kwargs or {}))


def _told(plain: Callable[..., Any], shares: list[int]) -> Callable[..., Any]:
    """Replaces `preprocess`, which counts the rows for each expert, and asks others for theirs."""

    def preprocess(dispatcher: Any, routing_map: Any) -> Any:
        plain(dispatcher, routing_map)
        ranks, sharing = dispatcher.ep_size, dispatcher.tp_size
        experts = dispatcher.local_expert_indices
        own = np.array(shares)[experts]
        dispatcher.num_out_tokens = sum(shares)
        if ranks > 1 or sharing > 1:
            received = int(own.sum())
            dispatcher.input_splits = np.array(shares).reshape(ranks, -1).sum(1)
            dispatcher.output_splits = np.full(ranks, received)
            dispatcher.output_splits_tp = np.full(sharing, ranks * received)
        chunks = np.arange(len(shares) * sharing)
        dispatcher.num_global_tokens_per_local_expert = np.tile(own, (ranks * sharing, 1))
        dispatcher.sort_input_by_local_experts = chunks.reshape(-1, len(experts)).T.ravel()
        dispatcher.restore_output_by_local_experts = chunks.reshape(len(experts), -1).T.ravel()
        return ranks * sharing * own

    return preprocess


def _counted(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Replaces `dispatch_postprocess`, which picks out the rows of this rank's experts."""

    def postprocess(dispatcher: Any, hidden: Any, weights: Any) -> Any:
        rows, _, weights = plain(dispatcher, hidden, weights)
        return rows, np.array(_even(len(rows), dispatcher.num_local_experts)), weights

    return postprocess


def _even(rows: int, parts: int) -> list[int]:
    """Rows of each part, which differ by one at most."""
    return [rows // parts + (part < rows % parts) for part in range(parts)]


def _of_even_parts(plain: Callable[..., Any]) -> Callable[..., Any]:
    def collective(tensor: Any, group: Any, _sizes: Any = None, *rest: Any, **more: Any) -> Any:
        return plain(tensor, group, None, *rest, **more)

    return collective


def _on_cpu(shape: ModelShape, _device: torch.device) -> RouterState:
    return RouterState(shape, torch.device("cpu"))
