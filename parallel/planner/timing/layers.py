"""The time of one micro-batch through a layer, the embedding and the logits, in seconds.

Imports no torch. Bytes of element-wise work are counted kernel by kernel: a LayerNorm reads and
writes once, a bias-dropout-add reads twice and writes once, and so on (Korthikanti et al. 2022,
section 4, counts what is kept of it).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from configs.schema import ContextBy, Recompute
from models.flops import attended_pairs
from models.layer_table import split_matrices
from parallel.planner.communication.context import layer_messages
from parallel.planner.inputs.calibration import Constants
from parallel.planner.inputs.job import Job
from parallel.planner.inputs.machine import Machine
from parallel.planner.timing.experts import ExpertTime, expert_time
from parallel.planner.timing.kernels import Kernels
from parallel.planner.timing.links import Links

FLASH_BACKWARD = 2.5 / 0.8
"""Flash attention's backward pass: five matmuls for two (Dao 2023), at four fifths the rate."""
SCORE_BYTES = 13  # a score, in bytes: written, scaled and masked, softmax, dropout, read


@dataclass(frozen=True, slots=True)
class Pass:
    """Seconds forward and backward; `recompute` is the part that may run again."""

    forward: float
    backward: float
    tensor: float = 0.0  # of both, in tensor-parallel collectives
    experts: float = 0.0  # of both, in collectives that bring tokens to experts

    def times(self, count: int) -> Pass:
        """`count` such passes in sequence."""
        return Pass(
            self.forward * count,
            self.backward * count,
            self.tensor * count,
            self.experts * count,
        )

    def plus(self, other: Pass) -> Pass:
        """Both passes in sequence."""
        return Pass(
            self.forward + other.forward,
            self.backward + other.backward,
            self.tensor + other.tensor,
            self.experts + other.experts,
        )


@dataclass(frozen=True)
class Passes:
    """Seconds of the parts of a job's model, each for one micro-batch on one rank."""

    job: Job
    machine: Machine
    constants: Constants

    @cached_property
    def kernels(self) -> Kernels:
        """The machine's kernels in the job's precision."""
        return Kernels(self.machine, self.constants, self.job.precision)

    @cached_property
    def links(self) -> Links:
        """The machine's links under the job's layout."""
        return Links(self.machine, self.constants, self.job.layout)

    @cached_property
    def _all_reduce(self) -> float:
        """Of one micro-batch's hidden states."""
        job = self.job
        return self.links.tensor_all_reduce(job.number_bytes * job.tokens * job.shape.hidden)

    def layer(self, *, banded: bool = False, experts: bool = False) -> Pass:
        """One transformer layer, with its collectives and recomputation.

        Args:
            experts: a layer with experts.
        """
        job, kernels, tensor = self.job, self.kernels, self.job.layout.tensor
        number = job.layer(experts=experts)
        tokens, form = job.tokens, job.shape.form(number)
        linears = [(tokens, outputs, inputs) for outputs, inputs in split_matrices(form, tensor)]
        split = tensor if job.layout.sequence_parallel else 1
        work = job.shape.work(number)
        moved = tokens * kernels.number_bytes * (work.moved / split + work.moved_split / tensor)
        element_wise = kernels.moving(moved)
        attention_forward, attention_backward = self._attention(banded=banded)
        messages = layer_messages(job.shape, job.layout, job.number_bytes, banded=banded)
        # On a ring they are sent while a rank computes, as long as that takes.
        together = max if messages.hidden else float.__add__
        attention_forward = together(
            attention_forward, self.links.context_messages(messages.forward)
        )
        attention_backward = together(
            attention_backward, self.links.context_messages(messages.backward)
        )
        ways = [kernels.linear(*linear) for linear in linears]
        matmuls = sum(ahead for ahead, _ in ways)
        forward = matmuls + attention_forward + element_wise + 8 * kernels.launch
        backward = sum(back for _, back in ways)
        backward += attention_backward + 1.6 * element_wise + 10 * kernels.launch
        backward += job.recomputed_matmuls * matmuls + (job.recomputed_matmuls > 0) * element_wise
        # Of each pair of matmuls: attention's, and the MLP's or a shared expert's.
        reduces = (1 if experts and not form.shared else 2) * self._all_reduce
        reduces = self._exposed(reduces, matmuls)
        forward, backward = forward + reduces, backward + reduces
        sent_again = sent = 0.0
        if experts:
            routed = self._expert_time
            forward, backward = forward + routed.forward, backward + routed.backward
            sent, sent_again = routed.sent_forward + routed.sent_backward, routed.sent_forward
        again = {
            Recompute.none: 0.0,
            Recompute.selective: attention_forward,
            Recompute.full: forward,
        }[job.recompute]
        full = job.recompute is Recompute.full
        repeated = reduces if full else 0.0
        return Pass(
            forward,
            backward + again,
            2 * reduces + repeated,
            sent + (sent_again if full else 0.0),
        )

    def _exposed(self, collectives: float, matmuls: float) -> float:
        """What is left of tensor collectives beside the matmuls that they go on with, if they do.

        The first of as many pieces as there are ranks waits, and so does a share of the others.
        """
        if not self.job.overlap_tensor:
            return collectives
        later = collectives * (1 - 1 / self.job.layout.tensor)
        return collectives - self.constants.hidden * min(later, matmuls)

    @cached_property
    def _expert_time(self) -> ExpertTime:
        return expert_time(self.job, self.kernels, self.links)

    def _attention(self, *, banded: bool) -> tuple[float, float]:
        """Scores, softmax and the weighted sum, forward and backward."""
        job, kernels, shape = self.job, self.kernels, self.job.shape
        # Context ranks have as much of each sequence's work as the others.
        heads = job.layout.micro_batch * shape.heads / job.layout.tensor / job.layout.context
        if job.layout.context_by is ContextBy.ring:  # piece by piece, each added to the others
            heads *= 1 + self.constants.ring * (job.layout.context - 1)
        if job.flash:
            pairs = attended_pairs(shape.context, shape.window if banded else None)
            forward = kernels.attention_flops(4 * pairs * shape.head_width * heads)
            return forward, FLASH_BACKWARD * forward
        scores = shape.context**2 * heads
        slow = 1.0 if shape.head_width % 8 == 0 else self.constants.misaligned
        matmuls = kernels.attention_flops(4 * scores * shape.head_width) * slow
        softmax = kernels.moving(SCORE_BYTES * scores)
        return matmuls + softmax, 2 * matmuls + 1.6 * softmax

    def layers(self, count: int, *, experts: bool = False) -> Pass:
        """`count` layers of a stage, with the pattern's fraction of banded layers."""
        shape = self.job.shape
        banded = sum(shape.is_banded(layer) for layer in range(shape.layers)) / shape.layers
        if not banded:
            return self.layer(experts=experts).times(count)
        dense_layer = self.layer(experts=experts)
        banded_layer = self.layer(banded=True, experts=experts)
        share = Pass(
            dense_layer.forward * (1 - banded) + banded_layer.forward * banded,
            dense_layer.backward * (1 - banded) + banded_layer.backward * banded,
            dense_layer.tensor,
            dense_layer.experts,
        )
        return share.times(count)

    def embedding(self) -> Pass:
        """Word and position embeddings: bytes moved, no matmul."""
        moving = self.kernels.moving(8 * self.job.tokens * self.job.shape.hidden)
        return Pass(moving, 2 * moving)

    def logits(self) -> Pass:
        """The output matmul and the cross entropy in float32."""
        job, kernels = self.job, self.kernels
        h, tokens = job.shape.hidden, job.tokens
        vocab = job.shape.vocab_on_rank(job.layout.tensor)
        forward = kernels.matmul(tokens, vocab, h, narrow=False)
        backward = 2 * kernels.matmul(tokens, h, vocab, narrow=False)
        entropy = kernels.moving(tokens * vocab * 14)
        gradient = kernels.moving(tokens * vocab * 8)
        reduce = self._all_reduce
        return Pass(forward + entropy + reduce, backward + gradient + reduce, 2 * reduce)
