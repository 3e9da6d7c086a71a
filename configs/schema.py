"""The typed configuration: every setting with its type and meaning.

Hydra composes the group files of this package; `configs.load` turns the result into these frozen
dataclasses. No other code sees a DictConfig. Values are in the group files, so that
the YAML a user reads is complete; a new field also has a default here, for older runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from configs.settings.asking import EvaluateConfig, GenerateConfig, ScalingConfig, TaskConfig
from configs.settings.cuda import CudaConfig
from configs.settings.network import ModelConfig
from configs.settings.planning import ClusterConfig, PlanConfig, PlanFormat
from configs.settings.text import ContaminationConfig, CorpusConfig


class EngineName(StrEnum):
    """The training engine."""

    megatron = "megatron"  # 1F1B and interleaved pipelines, sequence parallel, ZeRO 0 and 1
    # 1F1B and DualPipeV pipelines with ZeRO 0 and 1; without a pipeline ZeRO 0 to 3
    deepspeed = "deepspeed"


class DeviceName(StrEnum):
    """The device that ranks compute on."""

    auto = "auto"  # CUDA if the machine or the cluster has it, else the CPU
    cpu = "cpu"  # collectives go through gloo
    cuda = "cuda"  # collectives go through NCCL


class Precision(StrEnum):
    """Number format of weights, activations and gradients."""

    float32 = "float32"  # everything in 32 bits
    bf16 = "bf16"  # bfloat16, with float32 master weights
    fp16 = "fp16"  # half precision, with float32 master weights and a loss scale
    fp8 = "fp8"  # bf16 with matmuls in FP8, by Transformer Engine on CUDA

    @property
    def stored(self) -> Precision:
        """The format of weights and activations between matmuls."""
        return Precision.bf16 if self is Precision.fp8 else self


class Recompute(StrEnum):
    """Which activations the backward pass recomputes."""

    none = "none"  # keeps all activations
    # recomputes those of attention in the backward pass, of which fused attention keeps hardly any
    selective = "selective"
    full = "full"  # recomputes those of entire layers in the backward pass


class Schedule(StrEnum):
    """The order in which a pipeline runs micro-batches forward and backward."""

    standard = "standard"  # 1F1B, interleaved where layout.interleave > 1
    dualpipev = "dualpipev"  # two half stages per rank, from both ends of the model (DeepSpeed)


class LaunchName(StrEnum):
    """How the ranks are started."""

    local = "local"  # on this machine
    torchrun = "torchrun"  # by torchrun on every node: prints the commands, or runs one of them
    slurm = "slurm"  # by a SLURM batch script, written and submitted


class ContextBy(StrEnum):
    """How ranks that share a sequence attend to each other's tokens, in dense layers."""

    gather = "gather"  # every rank gathers all keys and values: few where query groups are few
    ring = "ring"  # keys and values go from rank to rank, while each computes with what it has
    exchange = "exchange"  # each rank gets all tokens of a share of the heads (Ulysses)


class ExpertBy(StrEnum):
    """How tokens come to the ranks of their experts."""

    all_to_all = "all_to_all"  # each token is sent to its experts' ranks alone
    all_gather = "all_gather"  # every rank gets all tokens: for few ranks, or many experts a token


@dataclass(frozen=True, kw_only=True)
class LayoutConfig:
    """How a model is distributed over ranks; `parallel.rules` checks combinations."""

    tensor: int  # ranks that share each matmul
    context: int = 1  # ranks that share each sequence
    context_by: ContextBy | None = None  # how they attend; null: the fastest by the plan
    # ranks that the experts of a layer are dealt out to: of tensor x context x data ranks, which it
    # divides with expert_tensor
    expert: int = 1
    expert_tensor: int = 1  # ranks that share each expert's matmuls
    # how tokens come to their experts; null: all_to_all, or nothing to choose
    expert_by: ExpertBy | None = None
    pipeline: int  # stages that the layers are divided into
    # replicas of the model, each with a part of the batch; null: as many as the ranks allow
    data: int | None
    interleave: int  # chunks of layers per stage
    stage_layers: list[int] | None = None  # layers of each stage: [3,1]; null: equal stages
    schedule: Schedule  # the order in which a pipeline runs its micro-batches
    micro_batch: int  # samples per forward pass of a stage
    sequence_parallel: bool  # splits activations along the sequence outside the matmuls
    # what is sharded over data ranks: 0 nothing, 1 optimizer, 2 gradients too, 3 parameters too
    zero: int
    recompute: Recompute  # which activations are recomputed to save memory
    # makes the default sizes suit the devices at hand; sizes that were given stay
    fit: bool = False


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """The training engine, and where its optimizer is kept."""

    name: EngineName  # the training engine
    offload_optimizer: bool  # keeps and updates optimizer state on the host (DeepSpeed, zero >= 1)


class GpusBy(StrEnum):
    """How GPUs are requested from SLURM."""

    gpus_per_node = "gpus_per_node"  # with --gpus-per-node
    gres = "gres"  # with --gres=gpu:N
    none = "none"  # not at all: nodes are allocated with all their GPUs


class Chain(StrEnum):
    """How one run is split into several jobs, where SLURM does not requeue."""

    none = "none"  # one job, requeued until the run is done
    array = "array"  # an array of `jobs` that run one at a time
    dependency = "dependency"  # `jobs` jobs, each after the one before


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """How the ranks are started, restarted and stopped."""

    name: LaunchName  # how the ranks are started
    port: int | None  # port of the rendezvous; null: a free one
    timeout_s: int  # timeout of a collective, in seconds
    # seconds for the ranks to find each other and to build the model
    start_timeout_s: int = 1800
    interface: str | None = None  # network interface of gloo and NCCL, as ib0; null: they choose
    grace_s: int  # seconds that a run has to save when it is stopped
    lease_s: int = 60  # seconds until the run directory of a dead owner is free again
    max_restarts: int  # how often SLURM restarts a job
    max_idle_starts: int  # a job ends after this many consecutive starts without a new checkpoint
    elastic: bool  # accepts other node counts, with the planner's best layout
    min_nodes: int  # minimum number of nodes of an elastic run
    address: str | None  # torchrun: address of the first node; null: there is one node
    node: int | None  # torchrun: number of this node, from 0; null: prints every node's command
    submit: bool  # slurm: false only writes and prints job.sbatch
    signal: str  # slurm: signal sent launch.grace_s before the time limit
    time_limit: str | None  # slurm: MINUTES, HOURS:MINUTES:SECONDS or DAYS-HOURS; null: SLURM's
    account: str | None  # slurm: --account; null: your default
    partition: str | None  # slurm: --partition; null: the cluster's default
    qos: str | None  # slurm: --qos; null: the cluster's default
    reservation: str | None  # slurm: --reservation; null: none
    constraint: str | None  # slurm: --constraint on nodes; null: none
    exclude: str | None  # slurm: nodes to exclude; null: none
    exclusive: bool  # slurm: exclusive nodes, with all their CPUs
    cpus_per_task: int | None  # slurm: CPUs of the one task per node; null: all of the job
    gpus_by: GpusBy  # slurm: how GPUs are requested
    chain: Chain  # slurm: how one run is split into several jobs, instead of requeueing
    jobs: int  # slurm: number of jobs in a chain
    directives: list[str]  # slurm: additional #SBATCH lines: [--mem=0]
    setup: list[str]  # slurm: shell commands to run first: [module load cuda]
    srun: list[str]  # slurm: additional srun arguments: [--container-image=phalanx.sqsh]
    # slurm: the ranks' Python, as a container names it; null: the one that wrote the script
    python: str | None = None
    wrapper: list[str]  # slurm: command that wraps python: [apptainer,exec,--nv,phalanx.sif]


class RateSchedule(StrEnum):
    """How the learning rate goes on after its warm-up."""

    cosine = "cosine"  # down a cosine to its end, as GPT-3's
    linear = "linear"  # down a line to its end
    constant = "constant"  # stays at its peak
    wsd = "wsd"  # warm-up, stable, decay: stays at its peak, and decays over annealing_tokens


class OptimizerName(StrEnum):
    """What updates the weights."""

    adam = "adam"  # AdamW for all of them
    # Muon for the matrices of the layers, AdamW for embeddings, norms and biases
    muon = "muon"


class MuonScale(StrEnum):
    """How large Muon's updates are, by torch's names."""

    # 0.2 sqrt(max(rows, columns)), so that AdamW's learning rate and weight decay serve both
    # (Moonlight, Liu et al. 2025)
    match_rms_adamw = "match_rms_adamw"
    # sqrt(max(1, rows / columns)), for a learning rate of its own, some 0.02 (Jordan et al. 2024)
    original = "original"


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer, its learning rate, and the batch ramp-up."""

    name: OptimizerName = OptimizerName.adam  # what updates the weights
    learning_rate: float  # peak learning rate, after warm-up
    # how the learning rate goes on after its warm-up
    schedule: RateSchedule = RateSchedule.cosine
    min_learning_rate_fraction: float  # the decay's end, as a fraction of the peak
    warmup_tokens: int  # linear warm-up of the learning rate
    decay_tokens: int | None  # the decay ends here; null: at the end of the run
    # wsd: the decay takes this many tokens before its end; null: a tenth of them all
    annealing_tokens: int | None = None
    ramp_tokens: int  # the batch grows linearly to train.global_batch over this many; 0: no ramp
    ramp_start: int  # samples of the first steps of the ramp
    beta1: float  # Adam's decay rate of the first moment
    beta2: float  # Adam's decay rate of the second moment
    epsilon: float  # term added to Adam's denominator
    momentum: float = 0.95  # Muon's decay rate of its momentum, which is Nesterov's
    newton_schulz_steps: int = 5  # Muon's iterations for each update
    muon_scale: MuonScale = MuonScale.match_rms_adamw  # how large Muon's updates are
    weight_decay: float  # decoupled weight decay
    clip: float  # maximum global gradient norm; 0: no clipping
    loss_scale: float  # fp16: initial dynamic loss scale


class BadLoss(StrEnum):
    """What happens when the loss is NaN or infinite, or has spiked."""

    stop = "stop"  # the run ends
    skip = "skip"  # returns to the newest checkpoint and skips the offending batches


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The length of a run, its checkpoints, evaluations and bad losses."""

    steps: int | None  # last step of the run; null: until model.recipe.tokens have been read
    global_batch: int  # samples per optimizer step
    seed: int  # random seed of the initial weights and the data order
    save_every: int  # steps between checkpoints; 0: only at the end
    keep_checkpoints: int  # how many of the newest checkpoints are kept; 0: all
    stop_after: int | None  # saves and ends at this step, with the schedule unchanged; null: none
    eval_every: int  # steps between evaluations on held-out text; 0: never
    eval_batches: int  # global batches per evaluation
    async_save: bool  # writes checkpoints during training, from a copy in host memory
    on_bad_loss: BadLoss  # what happens when the loss is NaN or infinite, or has spiked
    spike_factor: float | None  # a loss this many times the usual is a spike; null: not checked
    spike_window: int  # the usual loss is the median over this many previous steps
    skip_batches: int  # batches to skip: the bad one and those before it, since the checkpoint
    max_skips: int  # maximum number of skipped steps in a run
    # keeps attention within documents, of which a sample may hold several; GPT-3's saw all
    document_mask: bool = False
    restart_positions: bool = False  # counts positions from each document's beginning
    # allows resuming with another optimizer, schedule, batch or precision
    allow_changes: bool = False
    # steps between collections of Python's garbage, by all ranks at once; 0: whenever Python likes
    collect_every: int = 50


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What is logged, and where."""

    tensorboard: bool  # writes tensorboard/ in the run directory
    wandb: bool  # logs to Weights & Biases; needs pip install 'phalanx[wandb]'
    wandb_project: str  # the Weights & Biases project
    progress: bool  # shows a progress bar
    experts_every: int = 10  # steps between rows of experts.jsonl, of models with experts


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """A window of steps under torch.profiler."""

    start: int | None  # first step of a torch.profiler window; null: none
    steps: int  # length of that window
    memory_snapshot: bool  # writes the CUDA allocator's history of the window


@dataclass(frozen=True, kw_only=True)
class ParityConfig:
    """How many steps two runs are compared for."""

    steps: int  # steps of both runs


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """A checkpoint to or from one of Hugging Face's formats."""

    to: str | None  # folder to write, as transformers and others load it; null: none
    # folder of a GPT-2, Llama, Mistral, Mixtral, Qwen 2 or 3, GPT-NeoX, OLMo 2 or OLMoE to create
    # run_dir from; null: none
    source: str | None
    # what is written: gpt2, llama, mistral, qwen2, qwen3, gpt_neox, olmo2, mixtral, qwen3_moe or
    # olmoe; null: the first of them that has such layers
    family: str | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """All settings of one run."""

    model: ModelConfig  # the network and its training recipe
    layout: LayoutConfig  # how the model is distributed over ranks
    engine: EngineConfig  # the training engine
    cluster: ClusterConfig  # the machines to run on, or to plan for
    launch: LaunchConfig  # how the ranks are started
    corpus: CorpusConfig  # the text to train on
    optimizer: OptimizerConfig  # the optimizer and its schedule
    train: TrainConfig  # the training run
    log: LogConfig  # what is logged, and where
    profile: ProfileConfig  # a window of steps under torch.profiler
    generate: GenerateConfig  # text generation
    # evaluation tasks, by name; task=[NAME,NAME] selects files of configs/task
    tasks: dict[str, TaskConfig]
    evaluate: EvaluateConfig  # how tasks are evaluated
    scaling: ScalingConfig  # power laws fitted to finished runs
    parity: ParityConfig  # a comparison of two runs
    convert: ConvertConfig  # checkpoint conversion to and from Hugging Face's formats
    plan: PlanConfig  # what `phalanx plan` answers
    contamination: ContaminationConfig  # 13-gram overlap with benchmarks
    device: DeviceName  # the device that ranks compute on
    precision: Precision  # number format of weights, activations and gradients
    cuda: CudaConfig = field(default_factory=CudaConfig)  # what runs on CUDA
    # directory of the run; an existing one is resumed; null: runs/MODEL-LAYOUT-TIME
    run_dir: str | None
    # a checkpoint, a run or a folder of Hugging Face's to start from; null: run_dir's newest
    checkpoint: str | None
    format: PlanFormat  # output format of `phalanx plan`
    debug: bool  # shows tracebacks
