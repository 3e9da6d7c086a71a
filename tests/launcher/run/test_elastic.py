"""Other nodes than were asked for: which layout, on how many of them."""

from __future__ import annotations

import pytest

from configs.errors import InputError
from configs.schema import DeviceName
from launcher.run.elastic import layout_on, nodes_and_layout, run_on
from launcher.run.resolve import resolve
from parallel.layout import Layout
from parallel.rules import allowed
from tests.runs import run_of

NANO = "model=gpt3_nano launch.elastic=true launch.name=slurm device=cpu layout=tp2_pp2"
NANO += " cluster.gpus_per_node=2 cluster.nodes=2"
DGX = "model=gpt3_1.3b layout=gpt3_1.3b cluster=dgx_a100 cluster.nodes=4 launch.elastic=true"
DGX += " precision=bf16 optimizer.ramp_tokens=0 launch.name=slurm"
LONG = "model=llama3_8b model.context=32768 cluster=dgx_h100 cluster.nodes=4 layout.tensor=4"
LONG += " layout.context=2 layout.data=4 precision=bf16 launch.elastic=true launch.name=slurm"
CPU, CUDA = DeviceName.cpu, DeviceName.cuda


def test_as_many_as_were_asked_for_get_what_was_asked_for() -> None:
    run = run_of(DGX)
    assert nodes_and_layout(run, 4, CUDA) == (4, Layout.resolve(run.layout, 32))


@pytest.mark.parametrize(("of", "nodes"), [(DGX, 1), (DGX, 2), (DGX, 3), (DGX, 8), (LONG, 2)])
def test_others_get_a_layout_that_is_valid_and_uses_them(of: str, nodes: int) -> None:
    run = run_of(of)
    used, layout = nodes_and_layout(run, nodes, CUDA)
    assert used == nodes
    assert layout.world_size == 8 * nodes
    assert allowed(run_on(run, 8 * nodes), layout, ranks=8 * nodes, device="cuda")
    assert layout_on(run, 8 * nodes, CUDA) == layout  # every rank comes to the same


def test_nodes_that_no_layout_fits_stay_idle() -> None:
    run = run_of(f"{NANO} cluster.gpus_per_node=1 cluster.nodes=8")
    # 7 divides neither heads nor batch, and is more than the layers.
    used, layout = nodes_and_layout(run, 7, CPU)
    assert used == 6
    assert layout.world_size == 6


def test_what_fits_nowhere_is_refused() -> None:
    run = run_of(
        f"{DGX} model=gpt3_175b cluster.nodes=192 layout=gpt3_175b train.global_batch=1536"
    )
    with pytest.raises(InputError, match=r"launch\.elastic=true: no layout of model=gpt3_175b"):
        nodes_and_layout(run, 1, CUDA)
    few = run_of(f"{NANO} launch.min_nodes=2")
    assert nodes_and_layout(few, 2, CPU)[0] == 2
    with pytest.raises(InputError, match=r"fewer down to launch\.min_nodes=2"):
        nodes_and_layout(few, 1, CPU)


def test_ranks_find_it_by_their_number() -> None:
    run = run_of(NANO)
    as_ranks = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "node1"}
    plan = resolve(run, as_ranks)
    assert plan.layout == layout_on(run, 2, CPU)
    assert plan.layout.world_size == 2
    assert plan.run.layout == plan.layout.as_config()
    assert plan.run.train.global_batch == run.train.global_batch
    with pytest.raises(InputError, match=r"layout\.pipeline=2"):
        resolve(run_of(f"{NANO} launch.elastic=false"), as_ranks)
