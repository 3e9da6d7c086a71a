"""Whether the available ranks match those the layout needs, and their placement on nodes."""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import LaunchName
from parallel.layout import AXES
from parallel.rules.case import Case
from parallel.rules.fault import Fault, Fix, Rule
from parallel.rules.nearest import above, around, below, more_nodes, to

ENGINES = "Megatron-core parallel_state.py, DeepSpeed runtime/pipe/module.py"


def _is_whole(case: Case) -> bool:
    layout = case.layout
    return min(layout.size(axis) for axis in AXES) >= 1


def _product(case: Case) -> str:
    """The axes that one copy of the model takes, with their sizes."""
    sizes = {axis: case.layout.size(axis) for axis in AXES if axis != "data"}
    if sizes["context"] == 1:
        del sizes["context"]
    return " x ".join(f"{axis} {size}" for axis, size in sizes.items())


def a_rank_is_at_hand(case: Case) -> Iterator[Fault]:
    """There is a device for a rank to run on."""
    if case.ranks is not None and case.ranks < 1:
        yield Fault(
            setting="device",
            why="there is no CUDA device here; device=cpu needs none",
            source=ENGINES,
        )


def one_copy_fits_the_ranks(case: Case) -> Iterator[Fault]:
    """With `data` derived: at least one copy of the model, and no rank left over."""
    ranks, size = case.ranks, case.model_ranks
    if ranks is None or ranks < 1 or case.run.layout.data is not None or not _is_whole(case):
        return
    if ranks % size == 0:
        return
    at_hand = (
        f"which does not divide the {ranks} at hand" if ranks > size else f"of {ranks} at hand"
    )
    axis = "pipeline" if case.layout.pipeline > 1 else "tensor"
    yield Fault(
        setting=f"layout.{axis}",
        why=f"a copy of the model takes {_product(case)} = {size} ranks, {at_hand}",
        source=ENGINES,
        fixes=(
            more_nodes(case),
            *around(f"layout.{axis}", getattr(case.layout, axis), ranks),
            below("layout.tensor", case.layout.tensor, ranks),
            below("layout.context", case.layout.context, ranks),
            _with_idle_ranks(case, ranks),
            _alone(case),
        ),
    )


def _with_idle_ranks(case: Case, ranks: int) -> Fix:
    """As many replicas as fit; ranks may stay idle only if we start them."""
    if case.run.launch.name is not LaunchName.local:
        return ()
    others = case.layout.pipeline * case.layout.context
    smaller = range(min(case.layout.tensor, ranks // others), 0, -1)
    return [
        {"layout.tensor": tensor, "layout.data": ranks // (tensor * others)} for tensor in smaller
    ]


def _alone(case: Case) -> Fix:
    """A copy of the model on one rank, where neither axis alone would suffice."""
    sizes: dict[str, object] = {"layout.tensor": 1, "layout.pipeline": 1}
    if case.layout.context > 1:
        sizes |= {"layout.context": 1, "layout.context_by": None}
    return to({**sizes, "layout.data": 1} if case.run.layout.data else sizes)


def asked_world_is_at_hand(case: Case) -> Iterator[Fault]:
    """With `data` given: the layout's ranks equal the available ones, or fewer if we start them."""
    ranks, layout, launch = case.ranks, case.layout, case.run.launch.name
    if ranks is None or ranks < 1 or case.run.layout.data is None or not _is_whole(case):
        return
    if layout.world_size == ranks or (layout.world_size < ranks and launch is LaunchName.local):
        return
    lack = (
        f"of {ranks} at hand" if layout.world_size > ranks else f"and launch={launch} runs {ranks}"
    )
    yield Fault(
        setting="layout.data",
        why=f"{_product(case)} x data {layout.data} = {layout.world_size} ranks, {lack}",
        source=ENGINES,
        fixes=(
            more_nodes(case),
            *around("layout.data", layout.data, ranks),
            below("layout.pipeline", layout.pipeline, ranks),
            below("layout.tensor", layout.tensor, ranks),
            below("layout.context", layout.context, ranks),
            _alone(case),
        ),
    )


def cluster_is_large_enough(case: Case) -> Iterator[Fault]:
    """The cluster has a GPU for each rank of the layout."""
    there, needed = case.cluster_ranks, case.layout.world_size
    # Ranks that are not available at all are reported above.
    if there is None or there < 1 or needed <= there or (case.ranks or needed) < needed:
        return
    cluster = case.run.cluster
    yield Fault(
        setting="cluster.nodes",
        why=f"{cluster.nodes} nodes x {cluster.gpus_per_node} GPUs = {there}, "
        f"and the layout has {needed} ranks",
        source="a rank is one process with one GPU",
        fixes=(
            above("cluster.nodes", cluster.nodes, needed),
            below("layout.pipeline", case.layout.pipeline, there),
            below("layout.tensor", case.layout.tensor, there),
        ),
    )


def tensor_group_stays_in_a_node(case: Case) -> Iterator[Fault]:
    """Every layer exchanges its activations: links between nodes are too slow for that."""
    cluster, tensor = case.run.cluster, case.layout.tensor
    joined = cluster.link_gpus or cluster.gpus_per_node
    if case.device != "cuda" or joined is None or min(joined, tensor) < 1:
        return
    inside = tensor <= joined and (joined % tensor == 0 or case.layout.world_size <= joined)
    if not inside:
        where = "racks" if joined != cluster.gpus_per_node else "nodes"
        yield Fault(
            setting="layout.tensor",
            why=f"groups of {tensor} ranks do not fit whole into {where} of {joined} GPUs",
            source="Narayanan et al. 2021, takeaway 1: tensor parallel within a node",
            fixes=around("layout.tensor", tensor, joined),
        )


def fast_links_join_whole_nodes(case: Case) -> Iterator[Fault]:
    """A rack is of whole nodes: ranks are placed node by node."""
    joined, per_node = case.run.cluster.link_gpus, case.run.cluster.gpus_per_node
    if joined is None or per_node is None or min(joined, per_node) < 1 or joined % per_node == 0:
        return
    yield Fault(
        setting="cluster.link_gpus",
        why=f"nodes have {per_node} GPUs, and fast links join whole nodes",
        source="what the setting means",
        fixes=(
            to({"cluster.link_gpus": max(joined // per_node, 1) * per_node}),
            to({"cluster.link_gpus": None}),
        ),
    )


RULES: tuple[Rule, ...] = (
    a_rank_is_at_hand,
    one_copy_fits_the_ranks,
    asked_world_is_at_hand,
    cluster_is_large_enough,
    tensor_group_stays_in_a_node,
    fast_links_join_whole_nodes,
)
