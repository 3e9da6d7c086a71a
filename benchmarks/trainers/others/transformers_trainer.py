"""transformers' Llama and its own loss, in a training step as its Trainer takes it on one rank."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.trainers.others.torch_trainer import Step
from configs.schema import OptimizerConfig
from models.shape import ModelShape


def transformers_trainer(shape: ModelShape, optimizer: OptimizerConfig) -> Step:
    """Accumulates, clips and updates as `Trainer` does by default, without its logging."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocab,
            hidden_size=shape.hidden,
            intermediate_size=shape.feed_forward,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.query_groups,
            head_dim=shape.head_width,
            max_position_embeddings=shape.context,
            rms_norm_eps=shape.norm_epsilon,
            attn_implementation="sdpa",
            use_cache=False,
        )
    )
    model.train()
    adam = torch.optim.AdamW(
        model.parameters(),
        lr=optimizer.learning_rate / 10,
        betas=(optimizer.beta1, optimizer.beta2),
        eps=optimizer.epsilon,
        weight_decay=optimizer.weight_decay,
        fused=True,  # its adamw_torch_fused, the default
    )

    def step(micro_batches: list[Tensor]) -> float:
        total = 0.0
        for tokens in micro_batches:
            # It shifts the labels itself.
            loss = model(input_ids=tokens, labels=tokens).loss / len(micro_batches)
            loss.backward()
            total += float(loss.detach())
        nn.utils.clip_grad_norm_(model.parameters(), optimizer.clip)
        adam.step()
        adam.zero_grad(set_to_none=True)
        return total

    return step
