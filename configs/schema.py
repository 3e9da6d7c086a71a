"""The typed configuration: what may be set, of what type, with what meaning.

Hydra composes the group files of this package; `configs.load` turns the result into these frozen
dataclasses. Nothing beyond that door sees a DictConfig. A field without a default has its value in
the group file, so that the YAML a user reads is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EngineName(StrEnum):
    megatron = "megatron"
    deepspeed = "deepspeed"


class DeviceName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(StrEnum):
    float32 = "float32"
    bf16 = "bf16"
    fp16 = "fp16"


class Recompute(StrEnum):
    none = "none"
    selective = "selective"
    full = "full"


class Schedule(StrEnum):
    """In which order a pipeline runs its micro-batches forward and backward."""

    standard = "standard"  # 1F1B, interleaved where interleave > 1
    dualpipev = "dualpipev"  # two half stages a rank, from both ends of the model (DeepSpeed)


class AttentionPattern(StrEnum):
    """Which layers look at the whole context (dense) and which at a window of it (banded)."""

    dense = "dense"
    banded = "banded"
    alternating = "alternating"


class LaunchName(StrEnum):
    local = "local"
    torchrun = "torchrun"
    slurm = "slurm"


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """How the paper trained a model of this size; the other groups refer to these values."""

    global_batch: int  # samples of one optimizer step once the ramp is over
    learning_rate: float
    tokens: int  # training ends here unless train.steps is set
    warmup_tokens: int  # linear warm-up of the learning rate
    decay_tokens: int | None  # cosine decay ends here; null: with the run
    ramp_tokens: int  # the batch grows linearly to global_batch over this many tokens; 0: no ramp
    ramp_start: int  # samples of the first steps of the ramp


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    name: str
    layers: int
    hidden: int
    heads: int
    vocab: int
    context: int
    attention: AttentionPattern
    window: int  # tokens a banded layer sees, the current one included
    tokenizer: str  # gpt2, trained (byte-level BPE on the corpus), or a tokenizer.json
    recipe: RecipeConfig


@dataclass(frozen=True, kw_only=True)
class LayoutConfig:
    tensor: int
    pipeline: int
    data: int | None  # null: what the ranks at hand leave after tensor x pipeline
    interleave: int
    schedule: Schedule
    micro_batch: int
    sequence_parallel: bool
    zero: int
    recompute: Recompute


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    name: EngineName
    offload_optimizer: bool  # master weights, moments and the update on the host's CPU


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    name: str
    nodes: int
    gpus_per_node: int | None  # null: the devices of this machine; on CPU, as many ranks as asked
    gpu: str | None
    peak_tflops: dict[str, float]  # dense matmul peak of one GPU by precision, for MFU


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    name: LaunchName
    port: int | None  # rendezvous; null: a free one
    timeout_s: int  # a collective that takes longer is a failure


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    name: str
    text: str | None  # a file or a folder of UTF-8 text; null: the text every installation has
    extensions: list[str]  # which files of a folder are text
    max_bytes: int  # the default corpus is cut here
    validation_fraction: float  # of the documents, held out for evaluation
    cache: str | None  # where tokenizers and token files are kept; null: ~/.cache/phalanx


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    learning_rate: float
    min_learning_rate_fraction: float
    warmup_tokens: int
    decay_tokens: int | None
    ramp_tokens: int
    ramp_start: int
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float
    clip: float  # global gradient norm; 0: no clipping
    loss_scale: float  # fp16: the first dynamic loss scale


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    steps: int | None  # null: until model.recipe.tokens have been read
    global_batch: int  # samples
    seed: int
    save_every: int  # steps; 0: only at the end
    keep_checkpoints: int  # the newest are kept; 0: all
    stop_after: int | None  # a step: save and end there, the schedule unchanged
    eval_every: int  # steps; 0: never
    eval_batches: int  # global batches of held-out text


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    tensorboard: bool
    wandb: bool
    wandb_project: str
    progress: bool


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    start: int | None  # first step of a torch.profiler window; null: none
    steps: int
    memory_snapshot: bool  # CUDA allocator history of the window


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    prompt: str
    tokens: int
    temperature: float  # 0: the likeliest token
    top_p: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class ParityConfig:
    steps: int  # that both runs take


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    to: str | None  # a folder to write in Hugging Face's GPT-2 format
    source: str | None  # such a folder to read


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything one run was asked to be."""

    model: ModelConfig
    layout: LayoutConfig
    engine: EngineConfig
    cluster: ClusterConfig
    launch: LaunchConfig
    corpus: CorpusConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    log: LogConfig
    profile: ProfileConfig
    generate: GenerateConfig
    parity: ParityConfig
    convert: ConvertConfig
    device: DeviceName
    precision: Precision
    run_dir: str | None
    checkpoint: str | None
    debug: bool
