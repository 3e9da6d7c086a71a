"""The time of routed experts in one micro-batch, in seconds. Imports no torch.

Of the rank whose experts get most rows. Bytes of element-wise work are counted kernel by kernel, as
in `layers`: rows are gathered, sorted by expert, sorted back and added up.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from models.layer_table import LayerForm, expert_matrices
from parallel.planner.communication.experts import (
    Sent,
    capacity_messages,
    expert_messages,
    load_messages,
    routed_rows,
)
from parallel.planner.communication.traffic import Group
from parallel.planner.inputs.job import Job
from parallel.planner.timing.kernels import Kernels
from parallel.planner.timing.links import Links

BACKWARD = 1.6  # element-wise work of the backward pass, as in `layers`
PERMUTED = 5  # times that a row is moved where it is sent: gathered (2), added to its token's (3)
SORTED = 4  # where it is received: sorted by expert and back
ROUTED = 10  # kernels: of the choice (6), and of both permutations


class ExpertTime(NamedTuple):
    """Seconds of routed experts and their router; `sent` is the part in collectives."""

    forward: float
    backward: float
    sent_forward: float
    sent_backward: float


def expert_time(job: Job, kernels: Kernels, links: Links) -> ExpertTime:
    """Of a layer with experts."""
    shape, layout = job.shape, job.layout
    layer = job.layer(experts=True)
    form = shape.form(layer)
    ahead, back = _matmuls(job, form, kernels)
    here = form.experts // layout.expert
    busiest = job.busiest
    rows = routed_rows(shape, layout) * shape.hidden
    moved = (PERMUTED + (here > 1) * SORTED * layout.expert_tensor * busiest) * rows
    moved += job.routed_tokens * busiest * shape.work(layer).routed
    element_wise = kernels.moving(kernels.number_bytes * moved)
    launches = ROUTED * kernels.launch
    messages = expert_messages(shape, layout, job.number_bytes)
    of_choice = (*capacity_messages(shape, layout), *load_messages(shape, layout))
    choice = sum(map(links.expert_message, of_choice))
    sent = [
        sum(links.expert_message(_at_busiest(each, busiest), _leaving(job, links)) for each in way)
        for way in messages
    ]
    forward, backward = sent[0] + choice, sent[1]
    return ExpertTime(
        forward=ahead + element_wise + launches + forward,
        backward=back + BACKWARD * element_wise + launches + backward,
        sent_forward=forward,
        sent_backward=backward,
    )


def _matmuls(job: Job, form: LayerForm, kernels: Kernels) -> tuple[float, float]:
    """The router's, in float32, and the experts', grouped; forward and backward."""
    layout = job.layout
    here = form.experts // layout.expert
    rows = routed_rows(job.shape, layout) * layout.expert_tensor * job.busiest / here
    each = max(1, round(rows))
    exact = replace(kernels, precision="float32")
    tokens, experts, hidden = job.routed_tokens, form.experts, form.hidden
    forward = exact.matmul(tokens, experts, hidden)
    backward = exact.matmul(tokens, hidden, experts) + exact.matmul(experts, hidden, tokens)
    for outputs, inputs in expert_matrices(form, layout.expert_tensor):
        ahead, back = kernels.linear(each, outputs, inputs, count=here)
        forward, backward = forward + ahead, backward + back
    return forward, backward


def _leaving(job: Job, links: Links) -> float:
    """Of the rows for other nodes, the share that is sent to them: one of each token and node, if
    tokens are sent once a node and copied there.

    The token's experts are taken to be any, so that a node has none of them as often as `top_k`
    drawn from all experts are all of other nodes.
    """
    if not job.once_a_node:
        return 1.0
    moe = job.shape.moe
    near = links.in_node(Group.expert)
    on_node = moe.experts * near // job.layout.expert
    none = math.comb(moe.experts - on_node, moe.top_k) / math.comb(moe.experts, moe.top_k)
    return (1 - none) * moe.experts / on_node / moe.top_k


def _at_busiest(sent: Sent, busiest: float) -> Sent:
    """What the busiest rank receives, or sends back."""
    if sent.group is Group.tensor_expert:  # all tokens, wherever their experts are
        return sent
    return sent._replace(bytes=round(sent.bytes * busiest))
