"""The typed configuration: what may be set, of what type, with what meaning.

Hydra composes the group files of this package; `configs.load` turns the result into these frozen
dataclasses. Nothing beyond that door sees a DictConfig. Values stand in the group files, so that
the YAML a user reads is complete; a new field has a default here too, for runs from before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from configs.asking import EvaluateConfig, GenerateConfig, ScalingConfig, TaskConfig
from configs.text import ContaminationConfig, CorpusConfig


class EngineName(StrEnum):
    """What runs the training step."""

    megatron = "megatron"  # 1F1B and interleaved pipelines, sequence parallel, ZeRO 0 and 1
    # 1F1B and DualPipeV pipelines with ZeRO 0 and 1; without a pipeline ZeRO 0 to 3
    deepspeed = "deepspeed"


class DeviceName(StrEnum):
    """What the ranks compute on."""

    auto = "auto"  # CUDA where the machine or the cluster has it, else the CPU
    cpu = "cpu"  # collectives go through gloo
    cuda = "cuda"  # collectives go through NCCL


class Precision(StrEnum):
    """Numbers of weights, activations and gradients."""

    float32 = "float32"  # everything in 32 bits
    bf16 = "bf16"  # bfloat16, with float32 master weights
    fp16 = "fp16"  # half precision, with float32 master weights and a loss scale


class Recompute(StrEnum):
    """Which activations the backward pass computes again."""

    none = "none"  # all activations are kept
    selective = "selective"  # those of attention are computed again in the backward pass
    full = "full"  # those of whole layers are computed again in the backward pass


class Schedule(StrEnum):
    """In which order a pipeline runs its micro-batches forward and backward."""

    standard = "standard"  # 1F1B, interleaved where layout.interleave > 1
    dualpipev = "dualpipev"  # two half stages a rank, from both ends of the model (DeepSpeed)


class AttentionPattern(StrEnum):
    """Which layers look at the whole context (dense) and which at a window of it (banded)."""

    dense = "dense"  # all layers look at the whole context
    banded = "banded"  # all layers look at a window
    alternating = "alternating"  # dense and banded in turn, the first dense


class LaunchName(StrEnum):
    """How the ranks are started."""

    local = "local"  # on this machine
    torchrun = "torchrun"  # by torchrun on every node: shows the commands, or runs one of them
    slurm = "slurm"  # by a batch script, which is written and submitted


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """How the paper trained a model of this size; the other groups refer to these values."""

    global_batch: int  # samples of one optimizer step, once the ramp is over
    learning_rate: float  # highest learning rate, once the warm-up is over
    tokens: int  # training ends after so many, unless train.steps is set
    warmup_tokens: int  # linear warm-up of the learning rate
    decay_tokens: int | None  # the cosine decay ends here; null: with the run
    ramp_tokens: int  # the batch grows linearly to global_batch over this many; 0: no ramp
    ramp_start: int  # samples of the first steps of the ramp


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A GPT-3: its sizes, its attention and its tokenizer."""

    name: str  # what the model is called in run folders and tables
    layers: int  # transformer layers
    hidden: int  # width of a layer; heads must divide it
    heads: int  # attention heads of a layer
    vocab: int  # tokens the model knows
    context: int  # tokens of a sample, and the most a prompt and its answer have
    attention: AttentionPattern  # which layers look at the whole context, which at a window of it
    window: int  # tokens a banded layer sees, the current one included
    tokenizer: str  # gpt2, trained (byte-level BPE on the corpus), or the path of a tokenizer.json
    recipe: RecipeConfig  # how a model of this size is trained; train.* and optimizer.* refer to it


@dataclass(frozen=True, kw_only=True)
class LayoutConfig:
    """How a model is laid over ranks; `parallel.rules` says what goes together."""

    tensor: int  # ranks that share each matmul
    pipeline: int  # stages the layers are dealt out to
    # copies of the model, each with a part of the batch; null: what the ranks at hand leave
    data: int | None
    interleave: int  # chunks of layers a stage holds
    stage_layers: list[int] | None = None  # layers of each stage: [3,1]; null: all as many
    schedule: Schedule  # in which order a pipeline runs its micro-batches
    micro_batch: int  # samples that go through a stage at once
    sequence_parallel: bool  # splits activations along the sequence outside the matmuls
    # what data ranks share out: 0 nothing, 1 optimizer, 2 gradients too, 3 parameters too
    zero: int
    recompute: Recompute  # which activations are computed again, to save memory


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """What runs the training step, and where its optimizer is kept."""

    name: EngineName  # what runs the training step
    offload_optimizer: bool  # the update and its states are the host's (DeepSpeed, zero >= 1)


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """The machines to run on or to plan for, and one GPU's published figures."""

    name: str  # what the cluster is called
    nodes: int  # machines of the cluster to use
    gpus_per_node: int | None  # null: this machine's; on CPU, as many ranks as the layout asks for
    gpu: str | None  # the GPU's name; null: a run asks the driver
    peak_tflops: dict[str, float]  # dense peak of a GPU by precision: {bf16: 312, float32: 19.5}
    memory_gib: float | None  # memory of one GPU, GiB; null: known once a run starts
    memory_gb_s: float | None  # bandwidth of that memory, GB/s
    multiprocessors: int | None  # streaming multiprocessors of one GPU
    link_gb_s: float | None  # from a GPU to the others of its node, GB/s one way
    network_gb_s: float | None  # a GPU's share of its node's network cards, GB/s one way
    dollars_per_hour: float | None  # price of one GPU; null: plans show none
    sustained_tflops: float | None  # of one GPU, in published estimates; null: as the plan finds
    # whose measured runs give the plan its constants: phalanx, or of calibration.json
    software: str


class GpusBy(StrEnum):
    """How a cluster is asked for GPUs."""

    gpus_per_node = "gpus_per_node"  # by --gpus-per-node
    gres = "gres"  # by --gres=gpu:N
    none = "none"  # not at all: whole nodes have them


class Chain(StrEnum):
    """How one run becomes several jobs, where SLURM may not requeue."""

    none = "none"  # one job, requeued until the run is done
    array = "array"  # an array of `jobs` that run one at a time
    dependency = "dependency"  # `jobs` jobs, each after the one before


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """How the ranks are started, begun again and told to stop."""

    name: LaunchName  # how the ranks are started
    port: int | None  # of the rendezvous; null: a free one
    timeout_s: int  # seconds after which a collective has failed
    grace_s: int  # seconds that a run has to save in when it is told to stop
    lease_s: int = 60  # seconds until a run directory is free again whose owner is gone
    max_restarts: int  # times that SLURM starts a job again
    max_idle_starts: int  # starts in a row that save nothing new, after which a job ends
    elastic: bool  # fewer or more nodes than cluster.nodes will do, in the planner's best layout
    min_nodes: int  # the fewest nodes of an elastic run
    address: str | None  # torchrun: the first node, as the others reach it; null: there is one node
    node: int | None  # torchrun: which this is, from 0; null: shows every node's command
    submit: bool  # slurm: false only writes and shows job.sbatch
    signal: str  # slurm: what a run is sent launch.grace_s before the time limit
    time_limit: str | None  # slurm: MINUTES, HOURS:MINUTES:SECONDS or DAYS-HOURS; null: its own
    account: str | None  # slurm: --account; null: your own
    partition: str | None  # slurm: --partition; null: the cluster's own
    qos: str | None  # slurm: --qos; null: the cluster's own
    reservation: str | None  # slurm: --reservation; null: none
    constraint: str | None  # slurm: --constraint on nodes; null: none
    exclude: str | None  # slurm: nodes to do without; null: none
    exclusive: bool  # slurm: whole nodes, with all their processors
    cpus_per_task: int | None  # slurm: processors of a node's one task; null: all of the job
    gpus_by: GpusBy  # slurm: how a cluster is asked for GPUs
    chain: Chain  # slurm: how one run becomes several jobs, where none may be requeued
    jobs: int  # slurm: jobs of a chain
    directives: list[str]  # slurm: more lines behind #SBATCH: [--mem=0]
    setup: list[str]  # slurm: shell lines before anything runs: [module load cuda]
    srun: list[str]  # slurm: more arguments of srun: [--container-image=phalanx.sqsh]
    wrapper: list[str]  # slurm: words before python: [apptainer,exec,--nv,phalanx.sif]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam, its learning rate, and the batch ramp-up."""

    learning_rate: float  # highest learning rate, once the warm-up is over
    min_learning_rate_fraction: float  # fraction of it that the cosine ends at
    warmup_tokens: int  # linear warm-up of the learning rate
    decay_tokens: int | None  # the cosine decay ends here; null: with the run
    ramp_tokens: int  # the batch grows linearly to train.global_batch over this many; 0: no ramp
    ramp_start: int  # samples of the first steps of the ramp
    beta1: float  # Adam's decay of the first moment
    beta2: float  # Adam's decay of the second moment
    epsilon: float  # what Adam adds to the denominator
    weight_decay: float  # decoupled weight decay
    clip: float  # largest global gradient norm; 0: no clipping
    loss_scale: float  # fp16: the first dynamic loss scale


class BadLoss(StrEnum):
    """What is done where the loss is no number any more, or has spiked."""

    stop = "stop"  # the run ends
    skip = "skip"  # back to the newest checkpoint, and past the batches that did it


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The length of a run, its checkpoints, evaluations and bad losses."""

    steps: int | None  # last step of the run; null: until model.recipe.tokens have been read
    global_batch: int  # samples of one optimizer step
    seed: int  # of initial weights and the order of the data
    save_every: int  # steps from checkpoint to checkpoint; 0: only at the end
    keep_checkpoints: int  # how many of the newest are kept; 0: all
    stop_after: int | None  # a step to save and end at, the schedule unchanged; null: none
    eval_every: int  # steps from evaluation to evaluation on held-out text; 0: never
    eval_batches: int  # global batches of one evaluation
    async_save: bool  # a checkpoint is written beside the training, from a copy in host memory
    on_bad_loss: BadLoss  # what is done where the loss is no number any more, or has spiked
    spike_factor: float | None  # so many times the usual loss is bad; null: only what is no number
    spike_window: int  # steps before, whose median is the usual loss
    skip_batches: int  # how many: the bad one and those before it, back to the checkpoint at most
    max_skips: int  # most steps of a run that are skipped
    # a run may go on with another optimizer, schedule, batch or precision
    allow_changes: bool = False


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What is logged, and where to."""

    tensorboard: bool  # writes tensorboard/ in the run directory
    wandb: bool  # logs to Weights & Biases; needs pip install 'phalanx[wandb]'
    wandb_project: str  # the project it logs to
    progress: bool  # shows a progress bar


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """A window of steps under torch.profiler."""

    start: int | None  # first step of a torch.profiler window; null: none
    steps: int  # length of that window
    memory_snapshot: bool  # writes the CUDA allocator's history of the window


@dataclass(frozen=True, kw_only=True)
class ParityConfig:
    """How long two runs are compared."""

    steps: int  # steps that both runs take


class PlanFormat(StrEnum):
    """How `phalanx plan` answers."""

    table = "table"  # tables, for people
    json = "json"  # one object, for scripts
    html = "html"  # one self-contained page


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """What `phalanx plan` answers."""

    search: bool  # ranks all valid layouts of the ranks at hand
    trace: bool  # executes the engine's own code on fake tensors, stage by stage
    margin: float  # fraction of the memory that a layout of a search leaves free
    top: int  # layouts of a search that are shown
    out: str | None  # the page that format=html writes; null: plan.html
    timeline: str | None  # a file for the schedule in Chrome's and Perfetto's format; null: none


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """A checkpoint to or from Hugging Face's GPT-2 format."""

    to: str | None  # a folder to write in Hugging Face's GPT-2 format; null: none
    source: str | None  # such a folder, to make run_dir of; null: none


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything one run was asked to be."""

    model: ModelConfig  # the network, and the recipe it is trained by
    layout: LayoutConfig  # how the model is laid over ranks
    engine: EngineConfig  # what runs the training step
    cluster: ClusterConfig  # the machines to run on, or to plan for
    launch: LaunchConfig  # how the ranks are started
    corpus: CorpusConfig  # the text to train on
    optimizer: OptimizerConfig  # Adam and its schedule
    train: TrainConfig  # the training run
    log: LogConfig  # what is logged, and where to
    profile: ProfileConfig  # a window of steps under torch.profiler
    generate: GenerateConfig  # text from a model
    # what is asked, by name; task=[NAME,NAME] takes files of configs/task
    tasks: dict[str, TaskConfig]
    evaluate: EvaluateConfig  # how tasks are asked
    scaling: ScalingConfig  # power laws of finished runs
    parity: ParityConfig  # a comparison of two runs
    convert: ConvertConfig  # a checkpoint to and from Hugging Face's format
    plan: PlanConfig  # what `phalanx plan` answers
    contamination: ContaminationConfig  # 13-gram overlap with benchmarks
    device: DeviceName  # what the ranks compute on
    precision: Precision  # numbers of weights, activations and gradients
    # where the run is kept; one that is there goes on; null: runs/MODEL-LAYOUT-TIME
    run_dir: str | None
    checkpoint: str | None  # a checkpoint or a run to begin from, or to ask; null: run_dir's newest
    format: PlanFormat  # how `phalanx plan` answers
    debug: bool  # shows tracebacks
