"""How far fast links reach: a node, or the several nodes of a rack."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from parallel.layout import Layout
from parallel.planner.candidates import candidates
from parallel.planner.communication.traffic import Group
from parallel.planner.inputs.calibration import calibrated
from parallel.planner.inputs.cluster import machine_of
from parallel.planner.plan import Plan
from parallel.planner.timing.links import Links
from parallel.rules import allowed, check
from tests.runs import run_of

NODES_OF_FOUR = "cluster=dgx_h100 cluster.nodes=18 cluster.gpus_per_node=4"
RACK = f"{NODES_OF_FOUR} cluster.link_gpus=72"
MODEL = (
    "model=gpt3_13b layout=single device=cuda precision=bf16 train.global_batch=72 "
    "optimizer.ramp_tokens=0"
)


def links(cluster: str, layout: Layout) -> Links:
    machine = machine_of(run_of(cluster).cluster)
    return Links(machine, calibrated("phalanx", machine.gpu).constants, layout)


def test_without_a_rack_the_links_are_those_of_a_node() -> None:
    machine = machine_of(run_of("cluster=dgx_h100").cluster)
    assert machine.link_gpus == machine.gpus_per_node == 8


@pytest.mark.parametrize("seconds", [Links.tensor_all_reduce, Links.data_all_gather, Links.hop])
def test_gpus_of_a_rack_reach_each_other_as_those_of_a_node_do(
    seconds: Callable[[Links, float], float],
) -> None:
    layout = Layout(tensor=8, data=4, pipeline=2)
    in_a_rack = seconds(links(RACK, layout), 1e9)
    assert in_a_rack == seconds(links("cluster=dgx_h100 cluster.gpus_per_node=64", layout), 1e9)
    assert in_a_rack < seconds(links(NODES_OF_FOUR, layout), 1e9)


def test_a_ring_between_racks_goes_through_the_cards_of_its_ranks_in_one() -> None:
    layout = Layout(tensor=8, data=18)  # two racks
    two = links(RACK, layout)
    assert two.data_crosses_nodes
    assert two.data_ring() == 9 * two.network_bandwidth


def test_a_plan_says_which_links_are_a_racks() -> None:
    layout = Layout(tensor=8, data=9, micro_batch=1)

    def link(cluster: str, group: Group) -> str:
        run = run_of(f"{MODEL} {cluster}")
        return Plan.of(run, layout, run.device).link_of(group)

    assert link(RACK, Group.tensor) == link(RACK, Group.data) == "rack"
    assert link(NODES_OF_FOUR, Group.tensor) == "network"
    assert link("cluster=dgx_h100 cluster.nodes=9", Group.tensor) == "node"


def test_a_tensor_group_may_span_the_nodes_of_a_rack() -> None:
    layout = Layout(tensor=8, data=9, micro_batch=1)
    rack, nodes = run_of(f"{MODEL} {RACK}"), run_of(f"{MODEL} {NODES_OF_FOUR}")
    check(rack, layout, ranks=72, device="cuda")
    assert not allowed(nodes, layout, ranks=72, device="cuda")
    assert layout in set(candidates(rack, 72, machine_of(rack.cluster).link_gpus))
