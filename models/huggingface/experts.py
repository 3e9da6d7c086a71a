"""Layers with experts, in a config.json."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from configs.errors import InputError
from configs.settings.network import MoeConfig, RouterScore
from models.huggingface.keys import CONFIG, Choice, Config, Fields, Size, fault
from models.huggingface.windows import LAYERS
from models.shape import ModelShape

TRAINED_BY = ("balance", "z_loss", "bias_rate", "capacity")
"""Fields of `MoeConfig` that no config.json tells of."""

_SPELLINGS = ("num_experts", "num_local_experts")  # transformers 5 writes what it reads as either
_TOP_K, _BALANCE = "num_experts_per_tok", "router_aux_loss_coef"
_DIVIDED, _DENSE = "norm_topk_prob", "mlp_only_layers"
_MOST = 1 << 16


@dataclass(frozen=True, slots=True)
class Experts:
    """How many there are, how wide, and how a token's are chosen.

    Attributes:
        count: the key with their number, which is written.
        missing: their number where neither spelling is there.
        top_k: of a token where its key is missing.
        balance: the auxiliary loss's factor where its key is missing.
        width: the key of an expert's width; None: it is `intermediate_size`.
        missing_width: where that key is missing.
        renormalise: whether a key says if a token's weights are divided by their sum; else they
            always are.
        dense: whether a key says that the first layers have none.
    """

    count: str
    missing: int
    top_k: int
    balance: float
    width: str | None = None
    missing_width: int | None = None
    renormalise: bool = False
    dense: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """All that it reads."""
        optional = (
            self.width,
            _DIVIDED if self.renormalise else None,
            _DENSE if self.dense else None,
        )
        return (*_SPELLINGS, _TOP_K, _BALANCE, *(key for key in optional if key))

    def read(self, config: Config) -> Fields:
        """Raises InputError for numbers that contradict, or dense layers that are not the first."""
        count = self._count(config)
        top_k: int = Size(_TOP_K, "top_k", missing=self.top_k, most=_MOST).read(config)["top_k"]
        if top_k > count:
            raise fault(_TOP_K, top_k, f"is more than the {count} experts")
        width = None
        if self.width is not None:
            width = Size(self.width, "width", missing=self.missing_width).read(config)["width"]
        moe = MoeConfig(
            experts=count,
            top_k=top_k,
            feed_forward=width,
            dense_layers=self._dense(config),
            balance_weight=self._balance(config),
            **self._score(config, top_k),
        )
        return {"moe": moe}

    def write(self, shape: ModelShape) -> Fields:
        """All keys, the number of experts by the family's own name; none for no experts."""
        moe = shape.moe
        if not moe.experts:
            return {}
        written: Fields = {self.count: moe.experts, _TOP_K: moe.top_k, _BALANCE: moe.balance_weight}
        written[self.width or "intermediate_size"] = shape.expert_feed_forward
        if self.renormalise:
            written[_DIVIDED] = _divides(moe)
        if self.dense:
            written[_DENSE] = list(range(moe.dense_layers))
        return written

    def _count(self, config: Config) -> int:
        said = {key: config[key] for key in _SPELLINGS if config.get(key) is not None}
        if len(set(map(str, said.values()))) > 1:
            one, other = _SPELLINGS
            raise fault(other, said[other], f"contradicts {one}={said[one]}")
        key = next(iter(said), self.count)
        return int(Size(key, "experts", missing=self.missing, most=_MOST).read(config)["experts"])

    def _score(self, config: Config, top_k: int) -> Fields:
        if not self.renormalise:
            return {"score": RouterScore.softmax_chosen}
        values = ((True, True), (False, False))
        said = Choice(_DIVIDED, "renormalise", values, missing=False).read(config)
        if said["renormalise"] and top_k == 1:  # a single weight is 1, which ours leaves as it is
            return {"score": RouterScore.softmax_chosen}
        return said

    def _balance(self, config: Config) -> float:
        value = config.get(_BALANCE, self.balance)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e30:
            raise fault(_BALANCE, value, "is no factor")
        return float(value)

    def _dense(self, config: Config) -> int:
        """How many first layers are dense."""
        said: Any = (config.get(_DENSE) or []) if self.dense else []
        layers = LAYERS.read(config)["layers"]
        if not isinstance(said, list) or any(type(each) is not int for each in said):
            raise fault(_DENSE, said, "is no list of layers")
        if sorted(said) != list(range(len(said))):
            raise fault(_DENSE, said, "is not supported; nearest: the first layers, or none")
        if len(said) >= layers:
            raise InputError(f"{CONFIG}: {_DENSE} has all {layers} layers, which leaves no experts")
        return len(said)


def _divides(moe: MoeConfig) -> bool:
    """Whether the weights of a token's experts add up to 1, by a softmax of one kind or other."""
    if moe.score is RouterScore.softmax_chosen:
        return True
    return moe.renormalise and moe.top_k > 1


def without_effect(shape: ModelShape) -> Fields:
    """`moe` and `feed_forward` of the same network, with one description where several describe it,
    and defaults for what matters in training alone.

    A bias that was learned counts wherever experts are chosen, so `bias_rate` is none of that.
    """
    moe = shape.moe
    if not shape.expert_layers:
        return {"moe": MoeConfig()}
    usual = MoeConfig()
    score, divides = moe.score, _divides(moe)
    if score is not RouterScore.sigmoid:
        score = RouterScore.softmax_chosen if divides else RouterScore.softmax
    width = shape.expert_feed_forward
    feed_forward = shape.feed_forward if moe.dense_layers else width
    return {
        "feed_forward": feed_forward,
        "moe": replace(
            moe,
            feed_forward=None if width == feed_forward else width,
            score=score,
            renormalise=divides,
            balance=usual.balance,
            balance_weight=usual.balance_weight,
            z_loss=usual.z_loss,
            capacity=usual.capacity,
        ),
    }
