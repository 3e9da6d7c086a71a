"""The time of a collective over the links it crosses, in seconds. Imports no torch.

Rings, as NCCL's: an all-reduce of B bytes over w ranks moves 2 (w - 1) / w B over each link.
Between nodes a group's ring goes through as many network cards as it has ranks on a node.
A node is here what fast links join (`Machine.link_gpus`): of a rack-scale machine, the rack.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from parallel.layout import Layout
from parallel.planner.communication.context import Message
from parallel.planner.communication.experts import Sent
from parallel.planner.communication.traffic import CollectiveKind, Group
from parallel.planner.inputs.calibration import Constants
from parallel.planner.inputs.machine import Machine


@dataclass(frozen=True, slots=True)
class Links:
    """Seconds of a layout's collectives over a machine's links."""

    machine: Machine
    constants: Constants
    layout: Layout

    @property
    def tensor_in_node(self) -> bool:
        """Whether a tensor group fits into one node."""
        return self.layout.tensor <= self.machine.link_gpus

    @property
    def context_crosses_nodes(self) -> bool:
        """Whether a context group spans several nodes."""
        return self.layout.tensor * self.layout.context > self.machine.link_gpus

    @property
    def node_bandwidth(self) -> float:
        """Bytes/s of one GPU's links within a node that collectives reach."""
        return self.machine.link_bandwidth * self.constants.links

    @property
    def network_bandwidth(self) -> float:
        """Of one GPU's share."""
        return self.machine.network_bandwidth * self.constants.network

    def tensor_all_reduce(self, size: float) -> float:
        """Also a reduce-scatter plus an all-gather of as many bytes, as in sequence parallelism."""
        ranks = self.layout.tensor
        if ranks == 1:
            return 0.0
        latency = self.constants.tensor_us * 1e-6
        if self.tensor_in_node:
            return 2 * (ranks - 1) / ranks * size / self.node_bandwidth + latency
        whole_node = self.network_bandwidth * self.machine.link_gpus
        return 2 * size / whole_node + 2 * latency

    def context_messages(self, messages: Iterable[Message]) -> float:
        """Those of a layer's attention, one after another; what is received is sent meanwhile."""
        return sum(each.count * self._context_message(each) for each in messages)

    def _context_message(self, message: Message) -> float:
        ranks, inside = self.layout.context, not self.context_crosses_nodes
        bandwidth = self.node_bandwidth if inside else self.network_bandwidth
        if message.kind is CollectiveKind.recv:
            return 0.0
        if message.kind is CollectiveKind.send:
            return message.bytes / bandwidth + self.constants.hop_us * 1e-6
        if message.kind is not CollectiveKind.all_to_all and not inside:
            # A ring between nodes goes through as many cards as it has ranks on a node.
            bandwidth *= max(self.machine.link_gpus // self.layout.tensor, 1)
        return (ranks - 1) / ranks * message.bytes / bandwidth + self.constants.tensor_us * 1e-6

    @property
    def data_ranks_in_node(self) -> int:
        """How many ranks of a data group share a node."""
        free = max(self.machine.link_gpus // self.layout.tensor, 1)
        return min(self.layout.copies, free)

    @property
    def data_crosses_nodes(self) -> bool:
        """Whether a data group spans several nodes."""
        return self.layout.copies > self.data_ranks_in_node

    def data_ring(self, *, one_card: bool = False) -> float:
        """Bytes/s of a ring over the data ranks."""
        if not self.data_crosses_nodes:
            return self.node_bandwidth
        return self.network_bandwidth * (1 if one_card else self.data_ranks_in_node)

    def data_all_gather(self, size: float, *, one_card: bool = False) -> float:
        """`size` is the full size in bytes; also a reduce-scatter."""
        ranks = self.layout.copies
        return (ranks - 1) / ranks * size / self.data_ring(one_card=one_card)

    def _of_experts(self, group: Group) -> tuple[int, int]:
        """Ranks of a group of a layer with experts, and how far they are from each other."""
        layout = self.layout
        held = layout.expert * layout.expert_tensor
        if group is Group.expert:
            return layout.expert, layout.expert_tensor
        if group is Group.expert_tensor:
            return layout.expert_tensor, 1
        if group is Group.tensor_expert:
            return held, 1
        if group is Group.expert_data:
            return layout.expert_copies, held
        if group is Group.context:
            return layout.context, layout.tensor
        assert group is Group.tensor_context
        return layout.tensor * layout.context, 1

    def in_node(self, group: Group) -> int:
        """How many ranks of a group of a layer with experts share a node."""
        ranks, distance = self._of_experts(group)
        return min(ranks, max(self.machine.link_gpus // distance, 1))

    def experts_cross_nodes(self, group: Group) -> bool:
        """Whether a group of a layer with experts spans several nodes."""
        return self._of_experts(group)[0] > self.in_node(group)

    def expert_message(self, sent: Sent, leaving: float = 1.0) -> float:
        """One collective of a layer with experts, which nothing hides.

        Args:
            leaving: the share of an all-to-all's bytes for other nodes that goes through the
                network.
        """
        ranks, _ = self._of_experts(sent.group)
        if ranks == 1:
            return 0.0
        latency = self.constants.tensor_us * 1e-6
        near = self.in_node(sent.group)
        if sent.kind is CollectiveKind.all_to_all:
            # Each rank sends its own parts, through its own card what leaves the node.
            each = sent.bytes / ranks
            inside = (near - 1) * each / self.node_bandwidth
            outside = leaving * (ranks - near) * each / self.network_bandwidth
            return max(inside, outside) + latency
        once = self._ring(sent.group, sent.bytes)
        return once * (2 if sent.kind is CollectiveKind.all_reduce else 1) + latency

    def expert_data_all_gather(self, size: float) -> float:
        """Over the ranks that hold the same experts; also a reduce-scatter."""
        return self._ring(Group.expert_data, size)

    def _ring(self, group: Group, size: float) -> float:
        ranks, near = self._of_experts(group)[0], self.in_node(group)
        bandwidth = self.node_bandwidth if ranks == near else self.network_bandwidth * near
        return (ranks - 1) / ranks * size / bandwidth

    @property
    def stages_cross_nodes(self) -> bool:
        """Whether they do: neighbouring stages are tensor x context x data ranks apart."""
        layout = self.layout
        return layout.tensor * layout.copies >= self.machine.link_gpus

    def hop(self, size: float) -> float:
        """A message of `size` bytes to the next stage."""
        bandwidth = self.network_bandwidth if self.stages_cross_nodes else self.node_bandwidth
        return size / bandwidth + self.constants.hop_us * 1e-6
