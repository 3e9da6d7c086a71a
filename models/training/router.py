"""The router of a layer with experts: Megatron-core's, with a choice and losses of our own.

Megatron-core's auxiliary losses depend on the layout: the tokens over which loads are counted are
those of a micro-batch, or of the micro-batches so far. Here each is a mean over all tokens of the
global batch of a value that a token has whatever the layout: loads are counted over its sequence,
or are those of the step before. Capacity is by sequence for the same reason.

Shape suffixes: T tokens on this rank, B sequences, E experts, K chosen experts of a token.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.transformer.moe import moe_utils
from megatron.core.transformer.moe.router import TopKRouter
from torch import Tensor

from configs.settings.network import Balance, MoeConfig
from models.routing import Choice, choose, spread, within_capacity
from models.training.router_state import LayerStatistics

if not hasattr(moe_utils, "te_general_gemm"):
    # Without Transformer Engine Megatron-core compares a name that it never defines with None.
    moe_utils.te_general_gemm = None


class Router(TopKRouter):  # type: ignore[misc]  # Megatron-core is untyped
    """Chooses the experts of each token; attaches the losses' gradients to their weights.

    Args:
        layer: the layer's index among those with experts.
    """

    def __init__(self, config: Any, pg_collection: Any, *, moe: MoeConfig, layer: int) -> None:
        super().__init__(config, pg_collection)
        self.moe, self.index = moe, layer
        self.state = config.router_state
        self.spread_group = self.tp_cp_group if config.sequence_parallel else self.cp_group

    def forward(self, input: Tensor, padding_mask: None = None) -> tuple[Tensor, Tensor]:
        """Hidden states [T, B, H] to weights and a mask [T B, E] of the experts of each token."""
        assert padding_mask is None
        logits_TBE = self.gating(input)
        trained = self.training and torch.is_grad_enabled()
        if trained and self.moe.z_loss:
            logits_TBE = self._with_z_loss(logits_TBE)
        choice = choose(logits_TBE, self.moe, self.state.bias(self.index))
        weights_TBK, experts_TBK = choice.weights, choice.experts
        kept_TBK = None
        if self.training and self.moe.capacity is not None:
            kept_TBK = self._kept(weights_TBK.detach(), experts_TBK)
            weights_TBK = weights_TBK * kept_TBK
        if trained:
            weights_TBK = self._with_balance_loss(weights_TBK, choice, kept_TBK)
        chosen_TBK = (
            torch.ones_like(experts_TBK, dtype=torch.bool) if kept_TBK is None else kept_TBK
        )
        weights = spread(weights_TBK, experts_TBK, self.moe.experts)
        chosen = spread(chosen_TBK, experts_TBK, self.moe.experts)
        return weights.flatten(0, 1), chosen.flatten(0, 1)

    def _own_mean(self, tokens: int) -> float:
        """What to multiply a sum over this rank's tokens by, so that gradients add up to a mean's.

        Tensor ranks' gradients are added up; the schedule multiplies by the context ranks what
        gradients are averaged over later.
        """
        return 1 / (tokens * self.spread_group.size())

    def _with_z_loss(self, logits_TBE: Tensor) -> Tensor:
        """Keeps logits small: the mean square of their logsumexp (Zoph et al. 2022, ST-MoE)."""
        z_TB = logits_TBE.logsumexp(-1).square()
        self._statistics.z_loss += z_TB.detach().sum()
        loss = self.moe.z_loss * self._own_mean(z_TB.numel()) * z_TB.sum()
        attached: Tensor = moe_utils.MoEAuxLossAutoScaler.apply(logits_TBE, loss)
        return attached

    def _with_balance_loss(
        self, weights_TBK: Tensor, choice: Choice, kept_TBK: Tensor | None
    ) -> Tensor:
        """E sum_e f_e P_e (Fedus et al. 2021, eq. 4): f an expert's load, P its mean score."""
        chosen_TBE = spread(torch.ones_like(weights_TBK), choice.experts, self.moe.experts)
        self._count(choice, chosen_TBE, kept_TBK)
        if self.moe.balance is Balance.none:
            return weights_TBK
        if self.moe.balance is Balance.sequence:
            load_BE = self._load_of_sequences(chosen_TBE)
        else:
            load_BE = self.state.load(self.index)[None]
        of_token_TB = self.moe.experts * (choice.scores * load_BE).sum(-1)
        self._statistics.balance += of_token_TB.detach().sum()
        mean = self._own_mean(of_token_TB.numel()) * of_token_TB.sum()
        attached: Tensor = moe_utils.MoEAuxLossAutoScaler.apply(
            weights_TBK, self.moe.balance_weight * mean
        )
        return attached

    def _load_of_sequences(self, chosen_TBE: Tensor) -> Tensor:
        """[B, E]: of each sequence's choices, the fraction that are each expert."""
        counts_BE = chosen_TBE.detach().sum(0)
        if self.spread_group.size() > 1:
            torch.distributed.all_reduce(counts_BE, group=self.spread_group)
        return counts_BE / (len(chosen_TBE) * self.spread_group.size() * self.moe.top_k)

    def _kept(self, weights_TBK: Tensor, experts_TBK: Tensor) -> Tensor:
        """[T, B, K]: what experts take, for which ranks gather the choices of whole sequences."""
        ranks = self.spread_group.size()
        if ranks == 1:
            return within_capacity(weights_TBK, experts_TBK, self.moe)
        whole = [
            each.new_empty(ranks * each.shape[0], *each.shape[1:])
            for each in (weights_TBK, experts_TBK)
        ]
        for gathered, own in zip(whole, (weights_TBK, experts_TBK), strict=True):
            torch.distributed.all_gather_into_tensor(
                gathered, own.contiguous(), group=self.spread_group
            )
        kept = within_capacity(whole[0], whole[1], self.moe)
        return kept.chunk(ranks)[self.spread_group.rank()]

    @property
    def _statistics(self) -> LayerStatistics:
        statistics: LayerStatistics = self.state.statistics(self.index)
        return statistics

    @torch.no_grad()
    def _count(self, choice: Choice, chosen_TBE: Tensor, kept_TBK: Tensor | None) -> None:
        statistics = self._statistics
        statistics.chosen += chosen_TBE.sum((0, 1))
        statistics.entropy += torch.special.entr(choice.scores).sum()
        if kept_TBK is not None:
            statistics.dropped += (~kept_TBK).sum()
