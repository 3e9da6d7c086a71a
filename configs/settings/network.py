"""Settings of the network: its sizes, what its layers consist of, and its published recipe.

Defaults are GPT-3's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class AttentionPattern(StrEnum):
    """Which layers attend to the full context (dense) and which to a window of it (banded)."""

    dense = "dense"  # all layers attend to the full context
    banded = "banded"  # all layers attend to a window
    alternating = "alternating"  # dense and banded in turn, the first dense
    periodic = "periodic"  # one dense layer, the last, in every model.dense_every


class Positions(StrEnum):
    """How a token's position is told to the network."""

    learned = "learned"  # a learned vector for each position, added to the token's
    rotary = "rotary"  # queries and keys are rotated by an angle that grows with the position


class RopeScaling(StrEnum):
    """How rotary positions are stretched to a context longer than the one first trained on."""

    none = "none"  # not at all
    linear = "linear"  # all positions are divided by the factor
    llama3 = "llama3"  # long wavelengths are divided by the factor, as in Llama 3.1
    yarn = "yarn"  # the same by a ramp between two wavelengths, and larger logits (YaRN)


class Norm(StrEnum):
    """The normalisation of hidden states."""

    layer = "layer"  # LayerNorm: mean 0 and variance 1, with weight and bias
    rms = "rms"  # RMSNorm: root mean square 1, with a weight

    @property
    def has_bias(self) -> bool:
        """Whether it has a bias beside its weight."""
        return self is Norm.layer


class Residual(StrEnum):
    """How attention and MLP read from the residual stream and write to it."""

    pre_norm = "pre_norm"  # each reads the normalised stream; the MLP comes after attention
    post_norm = "post_norm"  # each reads the stream itself; its output is normalised (OLMo 2)
    parallel = "parallel"  # both read the layer's input, each with its own norm (GPT-NeoX)


class Mlp(StrEnum):
    """The MLP's activation."""

    gelu = "gelu"  # GELU by its tanh approximation, as in GPT-2
    gelu_exact = "gelu_exact"  # GELU by the error function
    swiglu = "swiglu"  # one half of the inner channels, through SiLU, times the other
    geglu = "geglu"  # one half of the inner channels, through GELU (tanh), times the other

    @property
    def is_gated(self) -> bool:
        """Whether the first linear has two halves, of which one gates the other."""
        return self in (Mlp.swiglu, Mlp.geglu)


class Biases(StrEnum):
    """Which linears have a bias."""

    all = "all"  # all but the output's
    qkv = "qkv"  # those of queries, keys and values
    none = "none"  # none

    @property
    def of_qkv(self) -> bool:
        """Whether the linear of queries, keys and values has one."""
        return self is not Biases.none


class QkNorm(StrEnum):
    """The RMSNorm of queries and keys before they are rotated."""

    none = "none"  # none
    head = "head"  # of each head, with one weight for all heads (Qwen 3)
    full = "full"  # of all heads together (OLMo 2)


class RouterScore(StrEnum):
    """How a router's logits become the weights of a token's experts."""

    softmax = "softmax"  # softmax over all experts; those with the highest values are chosen
    softmax_chosen = "softmax_chosen"  # the highest logits are chosen; softmax over these alone
    sigmoid = "sigmoid"  # the sigmoid of each logit; those with the highest values are chosen


class Balance(StrEnum):
    """The auxiliary loss that spreads tokens evenly over experts (Fedus et al. 2021)."""

    none = "none"  # none
    sequence = "sequence"  # by the experts' loads within each sequence
    batch = "batch"  # by their loads in the previous step's global batch


@dataclass(frozen=True, kw_only=True)
class MoeConfig:
    """Layers with a mixture of experts (MoE) in place of the MLP, and their router."""

    experts: int = 0  # routed experts of a layer; 0: every layer has one MLP
    top_k: int = 2  # experts that each token is sent to
    feed_forward: int | None = None  # inner channels of an expert; null: model.feed_forward
    dense_layers: int = 0  # so many first layers have one MLP
    # inner channels of the shared expert, which every token is sent to; 0: there is none
    shared: int = 0
    score: RouterScore = RouterScore.softmax  # how logits become weights
    renormalise: bool = True  # a token's weights are divided by their sum
    scale: float = 1.0  # a token's weights are multiplied by this
    balance: Balance = Balance.sequence  # the auxiliary loss that spreads tokens evenly
    balance_weight: float = 0.01  # factor of the auxiliary loss
    z_loss: float = 0.0  # factor of the mean square of the logits' logsumexp (ST-MoE)
    # balancing without a loss: after each step an expert's bias, which counts in the choice alone,
    # moves by this towards an even load (Wang et al. 2024); 0: there is no bias
    bias_rate: float = 0.0
    # in training an expert takes at most this times its even share of a sequence's tokens, those
    # with the largest weights; null: all
    capacity: float | None = None


@dataclass(frozen=True, kw_only=True)
class RotaryConfig:
    """Rotary positions (Su et al. 2021)."""

    base: float = 10000.0  # wavelengths grow from 2 pi to 2 pi times this
    fraction: float = 1.0  # of a head's channels that are rotated, the first ones
    scaling: RopeScaling = RopeScaling.none  # how positions are stretched to a longer context
    factor: float = 1.0  # how many times longer the context is
    # tokens of the context first trained on; llama3 and yarn
    original_context: int | None = None
    low_frequency_factor: float = 1.0  # llama3: wavelengths of more than original_context / this
    high_frequency_factor: float = 4.0  # llama3: wavelengths of less than original_context / this
    beta_fast: float = 32.0  # yarn: channels that turn more often in the first context stay
    beta_slow: float = 1.0  # yarn: channels that turn less often are divided by the factor
    # yarn: queries and keys are multiplied by this; null: 0.1 ln(factor) + 1
    attention_factor: float | None = None


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """How a model of this size was trained; the other groups refer to these values."""

    global_batch: int  # samples per optimizer step, after the ramp
    learning_rate: float  # peak learning rate, after warm-up
    tokens: int  # training ends after this many, unless train.steps is set
    warmup_tokens: int  # linear warm-up of the learning rate
    decay_tokens: int | None  # the decay ends here; null: at the end of the run
    ramp_tokens: int  # the batch grows linearly to global_batch over this many; 0: no ramp
    ramp_start: int  # samples of the first steps of the ramp
    min_learning_rate_fraction: float = 0.1  # the decay's end, as a fraction of the peak
    beta1: float = 0.9  # Adam's decay rate of the first moment
    beta2: float = 0.95  # Adam's decay rate of the second moment
    epsilon: float = 1e-8  # term added to Adam's denominator
    weight_decay: float = 0.1  # decoupled weight decay
    clip: float = 1.0  # maximum global gradient norm


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder-only transformer: its sizes, its layers and its tokenizer."""

    name: str  # the model's name in run folders and tables
    layers: int  # transformer layers
    hidden: int  # width of a layer
    heads: int  # attention heads per layer
    # heads of keys and values, each shared by as many queries' heads; null: as many as heads
    query_groups: int | None = None
    head_width: int | None = None  # channels of a head; null: hidden / heads
    feed_forward: int | None = None  # inner channels of the MLP; null: 4 * hidden
    vocab: int  # size of the vocabulary
    context: int  # tokens per sample, and the maximum of a prompt and its answer together
    attention: AttentionPattern  # which layers attend to the full context, and which to a window
    window: int  # tokens that a banded layer attends to, including the current one
    dense_every: int | None = None  # periodic: one layer in this many is dense
    positions: Positions = Positions.learned  # how a token's position is told
    rotary: RotaryConfig = field(default_factory=RotaryConfig)  # rotary positions
    norm: Norm = Norm.layer  # the normalisation of hidden states
    norm_epsilon: float = 1e-5  # added to a norm's variance
    # how attention and MLP read from the residual stream and write to it
    residual: Residual = Residual.pre_norm
    mlp: Mlp = Mlp.gelu  # the MLP's activation
    moe: MoeConfig = field(default_factory=MoeConfig)  # experts in place of the MLP
    biases: Biases = Biases.all  # which linears have a bias
    qk_norm: QkNorm = QkNorm.none  # the norm of queries and keys
    tied: bool = True  # the token embedding's weight also produces the logits
    logit_softcap: float | None = None  # logits are bounded by this, by a tanh; null: they are not
    # gpt2, trained (byte-level BPE on the corpus), a tokenizer.json, or a folder of Hugging Face's
    tokenizer: str
    # token before each document and prompt; none: no token; null: what the tokenizer says
    begin_token: str | None = None
    end_token: str | None = None  # token after each document; null: what the tokenizer says
    # further tokens that end a generated text: ["<|im_end|>"]; null: what the tokenizer says
    stop_tokens: list[str] | None = None
    recipe: RecipeConfig  # how a model of this size is trained; train.* and optimizer.* refer to it
