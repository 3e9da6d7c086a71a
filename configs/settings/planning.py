"""Settings of machines and plans."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """The machines to run on or to plan for, and one GPU's published figures.

    `from_` is the setting cluster.from: configs.load translates it.
    """

    name: str  # the cluster's name
    # what `phalanx plan` asks for nodes and GPUs: slurm or nvidia-smi; null: nothing
    from_: str | None = None
    nodes: int  # machines of the cluster to use
    gpus_per_node: int | None  # null: this machine's; on CPU, as many ranks as the layout has
    gpu: str | None  # the GPU's name; null: queried from the driver
    peak_tflops: dict[str, float]  # dense peak of a GPU by precision: {bf16: 312, float32: 19.5}
    memory_gib: float | None  # memory of one GPU, GiB; null: known once a run starts
    memory_gb_s: float | None  # bandwidth of the GPU's memory, GB/s
    multiprocessors: int | None  # streaming multiprocessors of one GPU
    # GPUs that fast links join, of several nodes in a rack-scale machine; null: those of a node
    link_gpus: int | None = None
    link_gb_s: float | None  # from a GPU to the others of its node, GB/s one way
    network_gb_s: float | None  # a GPU's share of its node's network cards, GB/s one way
    dollars_per_hour: float | None  # price of one GPU; null: plans show none
    node_watts: float | None = None  # most that a whole node draws; null: plans tell no energy
    # of the grid's electricity, grams of CO2 per kWh; null: plans tell no emissions
    grams_co2_per_kwh: float | None = None
    # mean hours until one node fails; null: that of a published run of 16,384 H100
    node_failure_hours: float | None = None
    sustained_tflops: float | None  # one GPU's rate in published estimates; null: the plan's
    # whose measured runs calibrate the plan: phalanx, or another one in calibration.json
    software: str


class PlanFormat(StrEnum):
    """The output format of `phalanx plan`."""

    table = "table"  # tables, for people
    json = "json"  # one JSON object, for scripts
    html = "html"  # one self-contained page


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """What `phalanx plan` answers."""

    search: bool  # ranks all valid layouts of the available ranks
    trace: bool  # runs the engine's own code on fake tensors, stage by stage
    margin: float  # fraction of memory that the search keeps free
    top: int  # number of layouts that the search shows
    # tokens that the busiest rank's experts get, over their even share, which 1 means and balancing
    # aims at; it multiplies the time and the memory of experts
    imbalance: float = 1.0
    # with search: the days that training may take, failures included, on as few nodes as do; null:
    # no such goal
    days: float | None = None
    dollars: float | None = None  # with search: the most that training may cost; null: no such goal
    # with search: how many nodes to choose from, 64 or 8..64; null: cluster.nodes, or with a goal
    # any number
    nodes: str | None = None
    # settings of a second plan, shown beside the first: [layout.tensor=4,layout.data=2]; null: none
    beside: list[str] | None = None
    # file of `phalanx plan calibrate` that plans of the same model and GPU rest on; shipped: none;
    # null: $XDG_DATA_HOME/phalanx/calibration.json if there is one
    calibration: str | None = None
    measure: bool = True  # a run on a CPU first measures smaller steps, if its plan lacks them
    runs: list[str] | None = None  # finished runs that `phalanx plan calibrate` fits to; null: none
    out: str | None  # the page that format=html writes; null: plan.html
    timeline: str | None  # a file for the schedule in Chrome's and Perfetto's format; null: none
