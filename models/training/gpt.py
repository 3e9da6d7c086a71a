"""One rank's part of a decoder, built from Megatron-core's tensor-parallel layers."""

from __future__ import annotations

from typing import Any

from megatron.core.models.gpt import GPTModel
from torch import Tensor

from configs.settings.network import Positions
from models.ops.cross_entropy import cross_entropy
from models.ops.linear import host_linear, on_host
from models.ops.padding import mask_padding
from models.ops.softcap import capped
from models.shape import ModelShape
from models.training.layer_specs import block_spec


class GPT(GPTModel):  # type: ignore[misc]  # Megatron-core is untyped
    """Megatron-core's GPTModel with a loss that assigns no probability to vocabulary padding.

    The vocabulary is padded so that it splits over tensor ranks. The padded rows stay at zero and
    out of the softmax, so the loss is that of the true vocabulary, whatever the padding.
    """

    def __init__(self, shape: ModelShape, config: Any, layers: list[int], **megatron: Any) -> None:
        transformer_engine = megatron.pop("transformer_engine")
        super().__init__(
            config=config,
            transformer_layer_spec=block_spec(shape, layers, transformer_engine=transformer_engine),
            vocab_size=shape.padded_vocab(config.tensor_model_parallel_size),
            max_sequence_length=shape.context,
            share_embeddings_and_output_weights=shape.tied,
            # Attention rotates by itself.
            position_embedding_type=(
                "learned_absolute" if shape.positions is Positions.learned else "none"
            ),
            **megatron,
        )
        self.true_vocab, self.softcap = shape.vocab, shape.logit_softcap
        if self.post_process and on_host(config):
            self.output_layer._forward_impl = host_linear  # Megatron-core builds it of its own

    def compute_language_model_loss(self, labels: Tensor, logits: Tensor) -> Tensor:
        """labels [B, T], logits [T, B, vocabulary on this rank] -> losses [B, T]."""
        tensor = self.pg_collection.tp
        logits = capped(logits, self.softcap)
        mask_padding(logits, self.true_vocab, tensor.rank())
        if not self.config.on_cpu:
            return super().compute_language_model_loss(labels, logits)
        losses_TB = cross_entropy(logits, labels.transpose(0, 1), tensor)
        return losses_TB.transpose(0, 1).contiguous()


def build_gpt(
    shape: ModelShape,
    config: Any,
    layers: range,
    *,
    chunk: int | None = None,
    transformer_engine: bool = False,
) -> GPT:
    """The chunk that holds `layers`, with the embedding before the first and the output after the
    last.

    Args:
        config: Megatron-core's TransformerConfig, with the split over tensor ranks.
        chunk: which of the stage's chunks this is; None without interleaving.
    """
    return GPT(
        shape,
        config,
        list(layers),
        pre_process=layers.start == 0,
        post_process=layers.stop == shape.layers,
        vp_stage=chunk,
        transformer_engine=transformer_engine,
    )
