"""`phalanx plan cluster.from=slurm`: what a real SLURM says of its nodes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slurm.nodes import nodes_in
from tests.cli import ROOT, PhalanxResult, phalanx
from tests.house.test_documents import shown
from tests.slurm_cluster import SlurmCluster

PLAN = ("plan", "model=gpt3_125m", "precision=bf16", "layout=dp2", "layout.data=null")
FROM = "cluster.from=slurm"


def plan(*more: str) -> PhalanxResult:
    # A batch that any number of ranks can share.
    batch = ("layout.micro_batch=1", "train.global_batch=1440", "optimizer.ramp_tokens=0")
    return phalanx(*PLAN, *batch, *more)


def test_nodes_of_a_partition_are_a_cluster_that_can_be_saved(
    partitions: SlurmCluster, tmp_path: Path
) -> None:
    found = plan(FROM, "launch.partition=hopper")
    assert found.status == 0, found.errors
    first, _, *rest = found.output.splitlines()
    assert first == "plan for 24 ranks on cluster=hopper, H100-SXM5-80GB"
    saved = rest[: next(at for at, line in enumerate(rest) if line.startswith("# save"))]
    assert saved[0] == "# What slurm says of hopper."
    assert "nodes: 3 # as slurm says" in saved
    assert "gpu: H100-SXM5-80GB # slurm says nvidia_h100_80gb_hbm3" in saved
    assert "memory_gb_s: 3350 # of cluster=dgx_h100" in saved
    assert (
        "not known of hopper, and taken from cluster=dgx_h100: memory_gib, link_gb_s, "
        "network_gb_s, dollars_per_hour, node_watts" in found.output
    )
    file = tmp_path / "conf" / "cluster" / "hopper.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(saved) + "\n")
    again = plan("--config-dir", str(file.parents[1]), "cluster=hopper")
    assert again.status == 0, again.errors
    assert found.output.endswith(again.output.partition("\n\n")[2])


def test_what_the_guide_shows_is_what_is_said(of_the_guide: SlurmCluster) -> None:
    page = (ROOT / "docs" / "guide" / "clusters.md").read_text()
    ((line, there),) = [(typed, said) for typed, said in shown(page).items() if FROM in typed]
    said = phalanx(*line.split()[1:])
    assert said.status == 0, said.errors
    assert said.output.startswith(there.removesuffix("...\n"))


def test_a_rack_is_one_where_slurm_has_whole_ones(partitions: SlurmCluster) -> None:
    said = json.loads(plan(FROM, "launch.partition=rack", "format=json").output)
    assert said["cluster"]["settings"]["nodes"] == 18
    assert said["cluster"]["settings"]["link_gpus"] == 72
    assert said["cluster"]["sources"]["gpus_per_node"] == "as slurm says"


def test_what_is_typed_wins(partitions: SlurmCluster) -> None:
    said = plan(FROM, "launch.partition=hopper", "cluster.nodes=2", "cluster.network_gb_s=25")
    assert "nodes: 2 # as typed" in said.output
    assert "network_gb_s: 25.0 # as typed" in said.output
    assert "plan for 16 ranks" in said.output


def test_a_chosen_cluster_chooses_among_nodes(partitions: SlurmCluster) -> None:
    said = plan(FROM, "launch.partition=main", "cluster=p5.48xlarge")
    assert "plan for 24 ranks on cluster=main, H100-SXM5-80GB" in said.output
    assert "dollars_per_hour: 6.88 # of cluster=p5.48xlarge" in said.output


def test_nodes_that_are_out_are_counted_and_named(partitions: SlurmCluster) -> None:
    partitions.run("scontrol", "update", "NodeName=hopper2", "State=DRAIN", "Reason=a fan")
    try:
        said = plan(FROM, "launch.partition=hopper")
        assert "plan for 24 ranks" in said.output
        assert "hopper2 is down or draining now, and counted" in said.output
    finally:
        partitions.run("scontrol", "update", "NodeName=hopper2", "State=UNDRAIN")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            [],
            "cluster.from=slurm: no partition of cpu, hopper, rack, ampere, desk, main, urgent is "
            "the default; nearest: launch.partition=hopper or launch.partition=rack or "
            "launch.partition=ampere",
        ),
        (
            ["launch.partition=cpu"],
            "cluster.from=slurm: launch.partition=cpu has no node with a GPU (Gres=gpu); nearest: "
            "launch.partition=",
        ),
        (
            ["launch.partition=hoper"],
            "launch.partition=hoper: SLURM has cpu, hopper, rack, ampere, desk, main, urgent; "
            "nearest: launch.partition=hopper",
        ),
        (
            ["launch.partition=main"],
            "cluster.from=slurm: the nodes of partition main differ: 18 nodes of 4 gb200, 3 nodes "
            "of 8 nvidia_h100_80gb_hbm3, 2 nodes of 4 a100, 1 node of 2 rtx4090; nearest: "
            "cluster=gb200_nvl72 cluster.from=slurm or cluster=dgx_h100 cluster.from=slurm",
        ),
        (
            ["launch.partition=ampere"],
            "cluster.from=slurm: a100 may be one of several; nearest, with the figures of that "
            "machine: cluster=dgx_a100 cluster.from=slurm or cluster=dgx_a100_40 "
            "cluster.from=slurm",
        ),
        (
            ["launch.partition=desk"],
            "cluster.from=slurm: the planner does not know rtx4090; nearest: cluster=",
        ),
        (
            ["launch.partition=hopper", "cluster=dgx_a100"],
            "cluster=dgx_a100 cluster.from=slurm: partition hopper has 3 nodes of 8 "
            "nvidia_h100_80gb_hbm3; nearest: cluster=dgx_h100 cluster.from=slurm",
        ),
    ],
)
def test_what_it_cannot_be_is_said_in_a_line(
    partitions: SlurmCluster, more: list[str], told: str
) -> None:
    refused = plan(FROM, *more)
    assert refused.status == 2
    assert refused.errors.startswith(f"phalanx: {told}")
    assert refused.errors.count("\n") == 1


def test_a_gpu_without_a_name_has_to_be_told(cluster: SlurmCluster) -> None:
    """A gres.conf that names no type, and a partition that is the default."""
    refused = plan(FROM)
    assert refused.errors == (
        "phalanx: cluster.from=slurm: which GPU the nodes of main have is not said (Gres=gpu:2); "
        "nearest: cluster=NAME cluster.from=slurm, with NAME as in `phalanx help cluster`\n"
    )
    said = plan(FROM, "cluster=dgx_h100")
    assert "plan for 4 ranks on cluster=main, H100-SXM5-80GB" in said.output
    assert "partition main is SLURM's default" in said.output
    assert "node_watts: null\n" in said.output, "of a machine with eight GPUs"


def test_slurm_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "none.conf"))
    refused = plan(FROM)
    assert refused.errors.startswith("phalanx: cluster.from=slurm: ")
    assert "SLURM_CONF says where its settings are" in refused.errors
    monkeypatch.setenv("PATH", str(tmp_path))
    assert plan(FROM).errors == (
        "phalanx: cluster.from=slurm: there is no sinfo here; nearest: cluster.from=nvidia-smi, or "
        "cluster=NAME\n"
    )


@pytest.mark.parametrize(
    ("gres", "gpus", "kind"),
    [
        ("gpu:8", 8, None),
        ("gpu:h100:8(S:0-1)", 8, "h100"),
        ("gpu:a100:4(S:0,1),shard:80", 4, "a100"),
        ("shard:a100:80,gpu:a100-sxm4-80gb:2", 2, "a100-sxm4-80gb"),
        ("gpu:v100:2,gpu:a100:2", 4, "a100 and v100"),
        ("gpu", 1, None),
        ("(null)", 0, None),
        ("mps:200", 0, None),
    ],
)
def test_what_gres_says(gres: str, gpus: int, kind: str | None) -> None:
    line = f"NodeName=n1 Gres={gres} State=IDLE+CLOUD Partitions=a,b Reason=an Gres=gpu:9 fault"
    (node,) = nodes_in(line)
    assert (node.gpus, node.kind, node.usable, node.partitions) == (gpus, kind, True, ("a", "b"))


@pytest.mark.parametrize(
    ("state", "usable"),
    [("MIXED", True), ("DOWN*", False), ("IDLE+DRAIN", False), ("ALLOCATED+COMPLETING", True)],
)
def test_which_states_are_out(state: str, usable: bool) -> None:
    assert nodes_in(f"NodeName=n1 Gres=gpu:1 State={state}")[0].usable is usable
