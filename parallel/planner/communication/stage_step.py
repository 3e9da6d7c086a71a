"""One step of one stage, as the formulas of its traffic look at it. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from configs.schema import DeviceName, OptimizerName, Precision
from models.shape import ModelShape
from parallel.engines.cuda_features import CudaFeatures
from parallel.layout import Layout

FLOAT = 4  # bytes; gradients are added up in float32
DOUBLE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of one stage, and what both engines' formulas need of it."""

    shape: ModelShape
    layout: Layout
    stage: int
    precision: Precision
    micro_batches: int
    device: DeviceName
    clips: bool
    optimizer: OptimizerName
    features: CudaFeatures
    context_rank: int = 0

    @property
    def gradient(self) -> int:
        """Bytes of a number of the gradients that Megatron-core reduces."""
        return 2 if self.features.bf16_gradients else FLOAT

    @property
    def number(self) -> int:
        """Bytes of a number of the model and of its activations."""
        return FLOAT if self.precision is Precision.float32 else 2

    @property
    def tokens(self) -> int:
        """Of a micro-batch, those that a context rank has."""
        return self.shape.context * self.layout.micro_batch // self.layout.context

    @property
    def hidden(self) -> int:
        """Bytes of the hidden states of a micro-batch, of all its tokens on the tensor ranks."""
        return self.tokens * self.shape.hidden * self.number

    @property
    def message(self) -> int:
        """Bytes of the hidden states that a rank holds between layers."""
        return self.hidden // (self.layout.tensor if self.layout.sequence_parallel else 1)

    @property
    def first(self) -> bool:
        """Whether the stage holds the first layers."""
        return self.stage == 0

    @property
    def last(self) -> bool:
        """Whether the stage computes the logits and the loss."""
        return self.stage == self.layout.logits_stage

    @property
    def layers(self) -> int:
        """Layers on the stage, over all its chunks."""
        return len(self.held_layers)

    @property
    def held_layers(self) -> list[int]:
        """Their numbers, from 0."""
        held = self.layout.layers_on(self.stage, self.shape.layers)
        return [layer for layers in held for layer in layers]

    @property
    def expert_layers(self) -> int:
        """Those of its layers that have experts."""
        return sum(map(self.shape.has_experts, self.held_layers))

    @property
    def pairs(self) -> int:
        """Pairs of matmuls that tensor ranks share, in all its layers."""
        without = 0 if self.shape.moe.shared else self.expert_layers
        return 2 * self.layers - without

    @property
    def banded_layers(self) -> int:
        """Those of its layers that see only a window."""
        return sum(map(self.shape.is_banded, self.held_layers))

    @property
    def embedding(self) -> int:
        """Numbers of the rank's part of the word embedding, or of the output layer."""
        return self.shape.vocab_on_rank(self.layout.tensor) * self.shape.hidden

    @property
    def own_tokens_parameters(self) -> list[int]:
        """Numbers of each replicated parameter that sees only the rank's tokens, under sequence
        parallel, or heads.
        """
        in_layers = [
            each
            for number in self.held_layers
            for each in self.shape.layer(number)
            if each.expert is None
        ]
        if not self.layout.sequence_parallel:
            heads = [each.numbers for each in in_layers if each.summed]
            return heads if self.layout.tensor > 1 else []
        layers = [each.numbers for each in in_layers if each.split is None]
        return layers + [each.numbers for each in self.shape.final_norm] * self.last
