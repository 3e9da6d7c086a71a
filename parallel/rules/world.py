"""Whether the ranks at hand are the ranks the layout needs, and where they stand."""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import LaunchName
from parallel.rules.case import Case
from parallel.rules.fault import Fault, Rule
from parallel.rules.nearest import above, around, below, more_nodes, to

ENGINES = "Megatron-core parallel_state.py, DeepSpeed runtime/pipe/module.py"


def _is_whole(case: Case) -> bool:
    layout = case.layout
    return min(layout.tensor, layout.pipeline, layout.data) >= 1


def _product(case: Case) -> str:
    return f"tensor {case.layout.tensor} x pipeline {case.layout.pipeline}"


def one_copy_fits_the_ranks(case: Case) -> Iterator[Fault]:
    """With `data` derived: at least one copy of the model, and no rank left over."""
    ranks, layout = case.ranks, case.layout
    if ranks is None or case.run.layout.data is not None or not _is_whole(case):
        return
    spare = ranks % case.model_ranks
    if not spare and ranks:
        return
    enough = ranks >= case.model_ranks
    many = "1 rank is" if ranks == 1 else f"{ranks} ranks are"
    lack = f"{many} at hand, not a multiple of it" if enough else f"only {many} at hand"
    setting, size = (
        ("layout.pipeline", layout.pipeline)
        if layout.pipeline > 1
        else ("layout.tensor", layout.tensor)
    )
    yield Fault(
        setting=setting,
        why=f"{_product(case)} = {case.model_ranks} ranks hold one copy of the model, and {lack}",
        source=ENGINES,
        ways=(
            more_nodes(case),
            *around(setting, size, ranks),
            below("layout.tensor", layout.tensor, ranks),
            to({"layout.data": ranks // case.model_ranks}) if enough else (),
        ),
    )


def asked_world_is_at_hand(case: Case) -> Iterator[Fault]:
    """With `data` given: its product is what there is, or less where we start the ranks."""
    ranks, layout = case.ranks, case.layout
    if ranks is None or case.run.layout.data is None or not _is_whole(case):
        return
    started = case.run.launch.name is not LaunchName.local
    if layout.world_size == ranks or (layout.world_size < ranks and not started):
        return
    relation = "only" if layout.world_size > ranks else "all of"
    yield Fault(
        setting="layout.data",
        why=f"{_product(case)} x data {layout.data} = {layout.world_size} ranks, "
        f"and {relation} {ranks} are at hand",
        source=ENGINES,
        ways=(
            more_nodes(case),
            *around("layout.data", layout.data, ranks),
            below("layout.pipeline", layout.pipeline, ranks),
            below("layout.tensor", layout.tensor, ranks),
        ),
    )


def cluster_is_large_enough(case: Case) -> Iterator[Fault]:
    there, needed = case.cluster_ranks, case.layout.world_size
    # Ranks that are not at hand at all are told of above.
    if there is None or there < 1 or needed <= there or (case.ranks or needed) < needed:
        return
    cluster = case.run.cluster
    yield Fault(
        setting="cluster.nodes",
        why=f"{cluster.nodes} nodes x {cluster.gpus_per_node} GPUs = {there}, "
        f"and the layout has {needed} ranks",
        source="a rank is one process with one GPU",
        ways=(
            above("cluster.nodes", cluster.nodes, needed),
            below("layout.pipeline", case.layout.pipeline, there),
            below("layout.tensor", case.layout.tensor, there),
        ),
    )


def tensor_group_stays_in_a_node(case: Case) -> Iterator[Fault]:
    """Every layer exchanges its activations: links between nodes are too slow for that."""
    per_node, tensor = case.run.cluster.gpus_per_node, case.layout.tensor
    if case.device != "cuda" or per_node is None or min(per_node, tensor) < 1:
        return
    inside = tensor <= per_node and (per_node % tensor == 0 or case.layout.world_size <= per_node)
    if not inside:
        yield Fault(
            setting="layout.tensor",
            why=f"groups of {tensor} ranks do not fit whole into nodes of {per_node} GPUs",
            source="Narayanan et al. 2021, takeaway 1: tensor parallel within a node",
            ways=around("layout.tensor", tensor, per_node),
        )


RULES: tuple[Rule, ...] = (
    one_copy_fits_the_ranks,
    asked_world_is_at_hand,
    cluster_is_large_enough,
    tensor_group_stays_in_a_node,
)
