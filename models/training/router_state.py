"""What routers remember from step to step, and what they count within one.

All ranks have the state of all layers: what a step counted is added up over all of them at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from models.shape import ModelShape

_SUMS = ("balance", "z_loss", "entropy", "dropped")


class LayerStatistics:
    """Views of one layer's sums over the tokens of a step so far, float64.

    Attributes:
        chosen: [E], how many tokens chose each expert, dropped ones included.
        balance: of the auxiliary loss of each token.
        z_loss: of the square of the logits' logsumexp.
        entropy: of the scores' entropies, in nats.
        dropped: choices that were beyond an expert's capacity.
    """

    def __init__(self, sums: Tensor, experts: int) -> None:
        self.chosen = sums[:experts]
        self.balance, self.z_loss, self.entropy, self.dropped = sums[experts:].unbind()


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What the routers of a model did in one step, equal on every rank.

    Attributes:
        load: [layers with experts][experts], the fraction of a layer's choices.
        balance_loss: the auxiliary loss, of each layer; 1 where loads are even.
        z_loss: of each layer.
        entropy: mean over tokens of the scores' entropy, in nats, of each layer.
        dropped: the fraction of choices that were dropped, of each layer.
    """

    load: list[list[float]]
    balance_loss: list[float]
    z_loss: list[float]
    entropy: list[float]
    dropped: list[float]

    @property
    def largest_load(self) -> float:
        """Of the busiest expert of all layers, over an even share."""
        return max(max(layer) * len(layer) for layer in self.load)

    def means(self) -> dict[str, float]:
        """Means over the layers, and the largest load, as metrics.jsonl has them."""
        return {
            "balance_loss": fmean(self.balance_loss),
            "router_z_loss": fmean(self.z_loss),
            "router_entropy": fmean(self.entropy),
            "dropped": fmean(self.dropped),
            "largest_load": self.largest_load,
        }


class RouterState:
    """The routers of all layers with experts. Sums, biases and loads are [layers, ...]."""

    def __init__(self, shape: ModelShape, device: torch.device) -> None:
        layers, self.moe = len(shape.expert_layers), shape.moe
        experts = self.moe.experts
        self._sums = torch.zeros(layers, experts + len(_SUMS), dtype=torch.float64, device=device)
        self._layers = [LayerStatistics(sums, experts) for sums in self._sums]
        self._bias = torch.zeros(layers, experts, device=device) if self.moe.bias_rate else None
        self._load = torch.full((layers, experts), 1 / experts, device=device)

    def statistics(self, layer: int) -> LayerStatistics:
        """The running sums of a layer."""
        return self._layers[layer]

    def bias(self, layer: int) -> Tensor | None:
        """[E], what is added to the values that experts are chosen by; None: nothing."""
        return None if self._bias is None else self._bias[layer]

    def load(self, layer: int) -> Tensor:
        """[E], the fractions of the layer's choices in the step before; even before the first."""
        return self._load[layer]

    @torch.no_grad()
    def end_step(self) -> Routing:
        """Adds the sums up over all ranks, updates biases and loads. Collective."""
        if torch.distributed.get_world_size() > 1:
            torch.distributed.all_reduce(self._sums)
        experts = self.moe.experts
        chosen = self._sums[:, :experts]
        choices = chosen.sum(1)
        tokens = choices / self.moe.top_k
        load = chosen / choices[:, None]
        self._load.copy_(load)
        if self._bias is not None:
            # Wang et al. 2024, "Auxiliary-loss-free load balancing", algorithm 1.
            self._bias += self.moe.bias_rate * (1 / experts - load).sign()
        balance, z_loss, entropy, dropped = (self._sums[:, experts:] / tokens[:, None]).T.tolist()
        self._sums.zero_()
        return Routing(
            load=load.tolist(),
            balance_loss=balance,
            z_loss=z_loss,
            entropy=entropy,
            dropped=[each / self.moe.top_k for each in dropped],
        )

    def state(self) -> dict[str, list[list[float]]]:
        """What a later step depends on; exact, since float32 numbers are written as doubles."""
        found = {"load": self._load.tolist()}
        return found if self._bias is None else found | {"bias": self._bias.tolist()}

    def load_state(self, state: dict[str, list[list[float]]]) -> None:
        """Takes the result of `state`; what it lacks is as before the first step."""
        self._load.fill_(1 / self.moe.experts)
        if "load" in state:
            self._load.copy_(torch.tensor(state["load"]))
        if self._bias is not None:
            self._bias.zero_()
            if "bias" in state:
                self._bias.copy_(torch.tensor(state["bias"]))
