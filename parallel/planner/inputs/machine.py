"""The planner's hardware model: one GPU, the links of its node, the network between nodes.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.settings.planning import ClusterConfig

GIGA = 1e9
TERA = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Published figures; the calibration says what fraction software reaches."""

    gpu: str
    peak_flops: dict[str, float]  # by precision, dense, FLOP/s
    memory_bytes: float
    memory_bandwidth: float  # bytes/s
    multiprocessors: int
    link_bandwidth: float  # bytes/s of one GPU to those that fast links join it with, one way
    network_bandwidth: float  # bytes/s, one GPU's share of its node's, one way
    gpus_per_node: int
    link_gpus: int  # that fast links join: a node's, or in a rack-scale machine those of several

    @classmethod
    def of(cls, cluster: ClusterConfig) -> Machine:
        """Asserts that no figure is missing; `parallel.planner.inputs.cluster` tells users."""
        assert cluster.gpu is not None
        assert cluster.memory_gib is not None
        assert cluster.memory_gb_s is not None
        assert cluster.multiprocessors is not None
        assert cluster.link_gb_s is not None
        assert cluster.network_gb_s is not None
        per_node = cluster.gpus_per_node or 1
        return cls(
            gpu=cluster.gpu,
            peak_flops={name: peak * TERA for name, peak in cluster.peak_tflops.items()},
            memory_bytes=cluster.memory_gib * 2**30,
            memory_bandwidth=cluster.memory_gb_s * GIGA,
            multiprocessors=cluster.multiprocessors,
            link_bandwidth=cluster.link_gb_s * GIGA,
            network_bandwidth=cluster.network_gb_s * GIGA,
            gpus_per_node=per_node,
            link_gpus=cluster.link_gpus or per_node,
        )

    @property
    def node_bandwidth(self) -> float:
        """Bytes/s out of an entire node, one way."""
        return self.network_bandwidth * self.gpus_per_node

    def peak(self, precision: str) -> float:
        """Dense peak in FLOP/s; fp8 falls back to 16 bits if the GPU lacks it."""
        if precision in self.peak_flops:
            return self.peak_flops[precision]
        return self.peak_flops["bf16" if "bf16" in self.peak_flops else "fp16"]
