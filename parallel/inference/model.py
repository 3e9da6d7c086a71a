"""A model for inference only: its weights under any tensor x pipeline layout.

No optimizer and no gradients: a rank holds its part of the weights in the model's precision, and
the KV cache. Shape suffixes: B rows, T tokens, H hidden, V vocabulary, R rows of hidden states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from megatron.core import parallel_state
from torch import Tensor
from torch.distributed import ProcessGroup

from configs.schema import Precision
from models.decoding.decoder import Caches, Decoder, names_of
from models.decoding.kv_cache import NextTokens
from models.shape import ModelShape
from parallel.engines.base import ParameterPart
from parallel.engines.named_parameters import part_of
from parallel.layout import Layout
from parallel.runtime.device import Device
from parallel.runtime.dtypes import DTYPES

_LOGITS_AT_ONCE = 256  # rows, which bounds memory: 50 MB of GPT-3's vocabulary


class InferenceModel:
    """This rank's stage. Requires `process_groups` for its lifetime.

    Every method is collective over the ranks that hold one model, which all call it with the same
    tokens; those that import weights, and `parameters`, are not.
    """

    def __init__(
        self, shape: ModelShape, layout: Layout, *, precision: Precision, device: Device
    ) -> None:
        assert layout.interleave == 1, "inference runs without interleaving"
        self.shape = shape
        self.layout = layout
        self.device = device.torch_device
        self.dtype = DTYPES[precision]
        self.stage = parallel_state.get_pipeline_model_parallel_rank()
        self._layers = layout.layers_of(self.stage, 0, shape.layers)
        self._tensor_rank = parallel_state.get_tensor_model_parallel_rank()
        self._tensor_group: ProcessGroup = parallel_state.get_tensor_model_parallel_group()
        self._decoder: Decoder | None = None

    @property
    def is_last(self) -> bool:
        """Whether this is the last stage, which computes the logits."""
        return self.stage == self.layout.pipeline - 1

    @property
    def decoder(self) -> Decoder:
        """This stage's layers with their weights, once loaded."""
        assert self._decoder is not None, "import_weights comes first"
        return self._decoder

    def parameters(self) -> list[ParameterPart]:
        """This rank's part of each of its parameters, by global name.

        Experts are cut over the tensor ranks as every other matrix is, and dealt out to none.
        """
        at = self._tensor_rank, self.layout.tensor
        return [
            part_of(name, self.shape.parameter(name), *at)
            for name in names_of(self._layers, self.shape)
        ]

    def import_weights(self, weights: Iterable[tuple[ParameterPart, Tensor]]) -> None:
        """Loads this rank's parts, float32, in the order of `parameters`."""
        taken = {at.name: weight.to(self.device, self.dtype) for at, weight in weights}
        self._decoder = Decoder(
            self.shape,
            self._layers,
            taken,
            self._tensor_rank,
            self._add_up if self.layout.tensor > 1 else None,
        )

    def import_router_bias(self, bias: Tensor | None) -> None:
        """Loads what balancing without a loss has come to, after the weights.

        Args:
            bias: [expert layers, experts] of the whole model; None: experts are chosen without.
        """
        if bias is not None:
            shape = (len(self.shape.expert_layers), self.shape.moe.experts)
            assert bias.shape == shape, f"biases of {tuple(bias.shape)}, experts of {shape}"
            bias = bias.to(self.device, torch.float32)
        self.decoder.router_bias = bias

    def take(self, whole: Mapping[str, Tensor]) -> None:
        """Extracts this rank's parts from full weights by global name."""

        def cut(at: ParameterPart) -> Tensor:
            return at.part.of(whole[at.name], at.shape)

        self.import_weights((at, cut(at)) for at in self.parameters())

    def _add_up(self, part: Tensor) -> Tensor:
        torch.distributed.all_reduce(part, group=self._tensor_group)
        return part

    @torch.inference_mode()
    def score(self, rows: Sequence[Sequence[int]], counts: Sequence[int]) -> Tensor:
        """[B, 2], float64, on every rank: log-likelihood of each row's last tokens, in nats, and
        whether each of them was the most likely.

        Args:
            counts: how many of a row's tokens to score; at least one must precede them.
        """
        # Choices of one token differ only in what is not an input: identical rows are run once.
        read = {tuple(row[:-1]): None for row in rows}
        places = {tokens: place for place, tokens in enumerate(read)}
        hidden_BTH = self.first(list(read), self.decoder.caches(0))
        found = torch.empty(len(rows), 2, dtype=torch.float64, device=self.device)
        if hidden_BTH is not None:
            for number, (row, count) in enumerate(zip(rows, counts, strict=True)):
                hidden_TH = hidden_BTH[places[tuple(row[:-1])]]
                asked_RH = hidden_TH[len(row) - 1 - count : len(row) - 1]
                targets_R = torch.tensor(row[len(row) - count :], device=self.device)
                found[number] = self._likelihood(asked_RH, targets_R)
        return self.told_by_last(found)

    def _likelihood(self, hidden_RH: Tensor, targets_R: Tensor) -> Tensor:
        parts = []
        for hidden, targets in zip(
            torch.split(hidden_RH, _LOGITS_AT_ONCE),
            torch.split(targets_R, _LOGITS_AT_ONCE),
            strict=True,
        ):
            logits_RV = self.gathered_logits(hidden)
            at_targets = logits_RV.gather(1, targets[:, None])[:, 0]
            likelihood = (at_targets - logits_RV.logsumexp(1)).double().sum()
            missed = (logits_RV.argmax(1) != targets).double().sum()
            parts.append(torch.stack([likelihood, missed]))
        likelihood, missed = torch.stack(parts).sum(0)
        return torch.stack([likelihood, (missed == 0).double()])

    def gathered_logits(self, hidden_RH: Tensor) -> Tensor:
        """[R, V], float32, on the last stage: the full vocabulary without padding."""
        part_RV = self.decoder.logits(hidden_RH)
        if self.layout.tensor > 1:
            parts = [torch.empty_like(part_RV) for _ in range(self.layout.tensor)]
            torch.distributed.all_gather(parts, part_RV.contiguous(), group=self._tensor_group)
            part_RV = torch.cat(parts, 1)
        return part_RV[:, : self.shape.vocab]

    def told_by_last(self, said: Tensor) -> Tensor:
        """Broadcasts the last stage's value to every stage."""
        if self.layout.pipeline > 1:
            last = parallel_state.get_pipeline_model_parallel_last_rank()
            group = parallel_state.get_pipeline_model_parallel_group()
            torch.distributed.broadcast(said, last, group=group)
        return said

    def first(self, rows: Sequence[Sequence[int]], caches: Caches) -> Tensor | None:
        """Runs the first tokens of every row; hidden states [B, T, H] on the last stage."""
        lengths = [len(row) for row in rows]
        assert min(lengths) > 0, "a row without tokens"
        assert max(lengths) <= self.shape.context, "a row longer than the context"
        tokens_BT = torch.zeros(len(rows), max(lengths), dtype=torch.int64)
        for number, row in enumerate(rows):
            tokens_BT[number, : len(row)] = torch.tensor(row)
        tokens_BT = tokens_BT.to(self.device)
        lengths_B = torch.tensor(lengths, device=self.device)
        positions_BT = torch.arange(tokens_BT.shape[1], device=self.device).expand_as(tokens_BT)
        return self._stages(
            tokens_BT, positions_BT, lambda it: self.decoder.begin(it, lengths_B, caches)
        )

    def next(self, tokens_B: Tensor, at: NextTokens, caches: Caches) -> Tensor | None:
        """Runs one more token of every row; hidden states [B, 1, H] on the last stage."""
        return self._stages(
            tokens_B[:, None],
            at.positions_B[:, None],
            lambda it: self.decoder.extend(it, at, caches),
        )

    def _stages(
        self, tokens_BT: Tensor, positions_BT: Tensor, layers: Callable[[Tensor], Tensor]
    ) -> Tensor | None:
        if self.stage == 0:
            hidden_BTH = self.decoder.embed(tokens_BT, positions_BT)
        else:
            hidden_BTH = torch.empty(
                *tokens_BT.shape, self.shape.hidden, dtype=self.dtype, device=self.device
            )
            torch.distributed.recv(
                hidden_BTH, parallel_state.get_pipeline_model_parallel_prev_rank()
            )
        hidden_BTH = layers(hidden_BTH)
        if self.is_last:
            return hidden_BTH
        torch.distributed.send(hidden_BTH, parallel_state.get_pipeline_model_parallel_next_rank())
        return None


class Rows:
    """Rows of growing length, with the model's cache. Collective, like the model."""

    def __init__(self, model: InferenceModel, prompts: Sequence[Sequence[int]], size: int) -> None:
        """Runs the prompts; `size`: the maximum length of a row in tokens."""
        self._model = model
        with torch.inference_mode():
            self._caches = model.decoder.caches(size)
            hidden_BTH = model.first(prompts, self._caches)
            self._lengths = [len(prompt) for prompt in prompts]
            self._newest_BH: Tensor | None = None
            if hidden_BTH is not None:
                ends = NextTokens([length - 1 for length in self._lengths], model.device)
                self._newest_BH = hidden_BTH[ends.rows_B, ends.positions_B]

    @torch.inference_mode()
    def choose(self, choice: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
        """The result of `choice` on the logits [B, V] of the newest tokens, on every rank.

        The last stage's ranks call it, all with the same logits.

        Args:
            shape: of its result, which is float64.
        """
        said = torch.empty(shape, dtype=torch.float64, device=self._model.device)
        if self._newest_BH is not None:
            said.copy_(choice(self._model.gathered_logits(self._newest_BH)))
        return self._model.told_by_last(said).cpu()

    @torch.inference_mode()
    def extend(self, tokens: Sequence[int]) -> None:
        """Appends one token to every row."""
        tokens_B = torch.tensor(tokens, device=self._model.device)
        at = NextTokens(self._lengths, self._model.device)
        hidden_B1H = self._model.next(tokens_B, at, self._caches)
        self._lengths = [length + 1 for length in self._lengths]
        if hidden_B1H is not None:
            self._newest_BH = hidden_B1H[:, 0]

    @torch.inference_mode()
    def pick(self, rows: Sequence[int]) -> None:
        """Continues with these rows, in this order; rows may repeat."""
        rows_B = torch.tensor(rows, device=self._model.device)
        for cache in self._caches:
            cache.pick(rows_B)
        self._lengths = [self._lengths[row] for row in rows]
        if self._newest_BH is not None:
            self._newest_BH = self._newest_BH[rows_B]
