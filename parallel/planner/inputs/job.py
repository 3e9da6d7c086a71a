"""The subject of a plan: a model, a layout, a batch and the software that runs them.

More general than a `Run`, so that published runs of other software can be planned too. Imports no
torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from configs.schema import EngineName, OptimizerName, Precision, Recompute, Run
from models.shape import ModelShape
from parallel.engines.registry import ENGINES, EngineKind
from parallel.layout import Layout
from parallel.parameter_count import layers_with_experts

OURS = "phalanx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One training step to be planned, of our software or another."""

    shape: ModelShape
    layout: Layout
    global_batch: int  # samples of a step
    precision: str  # of the matmuls: float32, bf16, fp16 or fp8
    engine: EngineName = EngineName.megatron  # of published runs, the one that theirs is like
    software: str = OURS
    flash: bool = True  # False: attention keeps its context x context scores
    gradient_bytes: int = 4  # of a number of the gradients that are reduced
    kept_gradient_bytes: int | None = None  # of all its gradients in memory; None: the same
    stage_layers: tuple[int, ...] | None = None  # where stages are uneven
    overlap_data: bool = True  # gradients are reduced while the backward pass goes on
    shared_messages: bool = True  # each tensor rank sends its share of a message between stages
    optimizer: OptimizerName = OptimizerName.adam
    newton_schulz_steps: int = 0  # of Muon, for each update
    imbalance: float = 1.0  # rows that the busiest rank's experts get over their even share
    offloads: bool = False  # the optimizer is in host memory
    one_card: bool = False  # gathers over data ranks go through one network card at a time
    # share of a layer's matmuls that the backward pass computes again, with what is element-wise
    recomputed_matmuls: float = 0.0
    overlap_tensor: bool = False  # matmuls go on while their inputs or outputs are communicated
    overlap_hops: bool = False  # chunks compute while messages between stages are on their way
    once_a_node: bool = False  # a token is sent once to each node that has experts of it

    @classmethod
    def of(cls, run: Run, layout: Layout, global_batch: int | None = None) -> Job:
        """A job for a run of ours, with `global_batch` replacing its own if given."""
        kind = ENGINES[run.engine.name]
        return cls(
            shape=ModelShape.of(run.model),
            layout=layout,
            global_batch=global_batch or run.train.global_batch,
            precision=run.precision,
            engine=kind.name,
            gradient_bytes=2 if run.cuda.bf16_gradients else 4,
            optimizer=run.optimizer.name,
            offloads=run.engine.offload_optimizer,
            newton_schulz_steps=run.optimizer.newton_schulz_steps,
            imbalance=run.plan.imbalance,
            overlap_tensor=run.cuda.tensor_overlap,
            overlap_hops=kind.interleaves,
            software=run.cluster.software,
            overlap_data=not (kind.reduces_after_pipeline and layout.pipeline > 1),
            shared_messages=layout.sequence_parallel
            or (kind.cuts_messages and not layout.dualpipev),
        )

    @property
    def kind(self) -> EngineKind:
        """The engine and its capabilities."""
        return ENGINES[self.engine]

    @property
    def tokens(self) -> int:
        """Tokens per micro-batch that a rank has, of sequences which a context group shares."""
        return self.shape.context * self.layout.micro_batch // self.layout.context

    @property
    def micro_batches(self) -> int:
        """Micro-batches per data rank and step."""
        return self.layout.micro_batches(self.global_batch)

    @property
    def number_bytes(self) -> int:
        """Bytes per element of weights and activations."""
        return 4 if self.precision == Precision.float32 else 2

    @property
    def recompute(self) -> Recompute:
        """Which activations the backward pass recomputes."""
        return self.layout.recompute

    @property
    def routed_tokens(self) -> int:
        """Tokens per micro-batch that a rank routes."""
        return self.tokens // (self.layout.tensor if self.layout.sequence_parallel else 1)

    @property
    def busiest(self) -> float:
        """Rows that the busiest rank's experts get, over the even share of all rows."""
        capacity = self.shape.moe.capacity
        return self.imbalance if capacity is None else min(self.imbalance, capacity)

    def layer(self, *, experts: bool) -> int:
        """The number of a layer that has experts, or has none."""
        return self.shape.layers - 1 if experts else 0

    def kinds_of(self, stage: int) -> list[tuple[bool, int]]:
        """The layers on a stage without experts, and those with experts, if there are any."""
        if self.stage_layers is not None:
            return [(False, self.stage_layers[stage])]
        held = self.layout.layers_on(stage, self.shape.layers)
        layers, routed = sum(map(len, held)), sum(layers_with_experts(self.shape, held))
        kinds = ((False, layers - routed), (True, routed))
        return [(experts, count) for experts, count in kinds if count]

    def kinds_of_chunks(self, stage: int) -> list[list[tuple[bool, int]]]:
        """The same for each chunk of the stage.

        Where stages are uneven, the model's first chunk and its last are, beside the embedding and
        the logits.
        """
        if self.stage_layers is not None:
            chunks = self.layout.chunks_per_stage
            each = [max(self.stage_layers) // chunks] * chunks
            end = -1 if stage == self.layout.logits_stage else 0
            each[end] += self.stage_layers[stage] - sum(each)
            return [[(False, layers)] for layers in each]
        held = self.layout.layers_on(stage, self.shape.layers)
        both = zip(held, layers_with_experts(self.shape, held), strict=True)
        return [[(False, len(layers) - routed), (True, routed)] for layers, routed in both]

    def layers_of(self, stage: int) -> int:
        """Layers on a stage, over all its chunks."""
        if self.stage_layers is not None:
            return self.stage_layers[stage]
        return sum(map(len, self.layout.layers_on(stage, self.shape.layers)))
