"""The typed configuration: what may be set, of what type, with what meaning.

Hydra composes the group files of this package; `configs.load` turns the result into these frozen
dataclasses. Nothing beyond that door sees a DictConfig. A field without a default has its value in
the group file, so that the YAML a user reads is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from configs.asking import EvaluateConfig, GenerateConfig, ScalingConfig, TaskConfig


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
    stage_layers: list[int] | None = None  # of each stage; null: all have as many
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
    peak_tflops: dict[str, float]  # dense matmul peak of one GPU by precision
    # Of one GPU; null, as for a machine that is only asked when a run starts: not known.
    memory_gib: float | None
    memory_gb_s: float | None  # bandwidth of that memory
    multiprocessors: int | None
    link_gb_s: float | None  # to the other GPUs of its node, one way
    network_gb_s: float | None  # its share of the node's network cards, one way
    dollars_per_hour: float | None
    sustained_tflops: float | None  # what the published estimates reckon with; null: the plan's own
    software: str  # whose measured runs the plan's constants come from


class GpusBy(StrEnum):
    """How a cluster is asked for GPUs."""

    gpus_per_node = "gpus_per_node"
    gres = "gres"
    none = "none"  # whole nodes have them


class Chain(StrEnum):
    """How one run becomes several jobs, where SLURM may not requeue."""

    none = "none"  # one job, requeued until the run is done
    array = "array"  # an array of `jobs` that run one at a time
    dependency = "dependency"  # `jobs` jobs, each after the one before


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    name: LaunchName
    port: int | None  # rendezvous; null: a free one
    timeout_s: int  # a collective that takes longer is a failure
    grace_s: int  # that a run has to save in when it is told to stop
    lease_s: int  # a run directory is free again so long after its owner renewed its lease last
    max_restarts: int  # of a job by SLURM
    max_idle_starts: int  # in a row that save nothing new, after which it ends too
    elastic: (
        bool  # a start on fewer or more nodes than cluster.nodes gets the planner's best layout
    )
    min_nodes: int  # of an elastic run
    # Of launch=torchrun.
    address: str | None  # of the first node, as the others reach it; null where there is one node
    node: int | None  # which this is, from 0: starts its ranks; null: shows every node's command
    # Of launch=slurm; null: not said, so that the cluster's own default holds.
    submit: bool  # false: job.sbatch is only written
    signal: str  # that SLURM sends grace_s before the time limit
    time_limit: str | None  # as SLURM reads it: MINUTES, HOURS:MINUTES:SECONDS, DAYS-HOURS
    account: str | None
    partition: str | None
    qos: str | None
    reservation: str | None
    constraint: str | None
    exclude: str | None  # nodes
    exclusive: bool  # whole nodes, with all their processors
    cpus_per_task: int | None  # of each node's one task; null: all that the job was given
    gpus_by: GpusBy
    chain: Chain
    jobs: int  # of a chain
    directives: list[str]  # more lines behind #SBATCH
    setup: list[str]  # shell lines before anything runs: modules, an environment
    srun: list[str]  # more arguments of srun, such as pyxis' --container-image=...
    wrapper: list[str]  # words before `python`, such as apptainer exec --nv image.sif


class TextFormat(StrEnum):
    auto = "auto"  # by the file's name
    text = "text"  # a document a file
    jsonl = "jsonl"  # a document a line
    warc = "warc"  # Common Crawl's WARC and WET


class MachineText(StrEnum):
    """Text that every installation can make for itself; `corpus.machine` does."""

    crawl = "crawl"
    packages = "packages"
    docstrings = "docstrings"
    library = "library"
    manual = "manual"
    arithmetic = "arithmetic"


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One source of a corpus; it has a `path` or is made on this `machine`."""

    weight: float  # any number from 0 on; its share of the samples is this by the sum of all
    path: str | None = None  # a file, a folder or a glob pattern, from corpus.root
    machine: MachineText | None = None
    max_bytes: int = 0  # text of the machine is cut here; 0: nowhere
    stands_for: str | None = None  # what it is in place of, for people
    format: TextFormat = TextFormat.auto
    field: str = "text"  # of a JSONL line
    curated: bool = False  # an example of good text to the quality filter
    quality: bool = False  # goes through the quality filter
    deduplicate: bool = False  # loses documents like ones of curated sources or earlier ones


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    alpha: float  # a document stays if numpy.random.pareto(alpha) > 1 - score
    features: int  # the words of a document are hashed into so many
    documents: int  # of either kind, that the classifier learns from


@dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    hashes: int  # of a document's MinHash
    bands: int  # documents that agree in one whole band are compared
    similarity: float  # Jaccard similarity, by their hashes, from which on they are duplicates
    shingle: int  # words


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    name: str
    text: str | None  # a file, a folder or a glob pattern, in place of the sources below
    field: str = "text"  # of a JSONL line of corpus.text; each source has its own
    sources: dict[str, SourceConfig]
    root: str | None  # the folder that paths of sources start from; null: the current one
    extensions: list[str]  # which files of a folder are plain text
    validation_fraction: float  # of the documents of each source, held out for evaluation
    max_damaged: float  # a larger fraction of damaged records ends the preparation
    decontaminate: bool  # apply the training filter against contamination.benchmarks
    quality: QualityConfig
    duplicates: DuplicatesConfig
    workers: int | None  # processes; null: one a core
    cache: str | None  # where tokenizers and token files are kept; null: ~/.cache/phalanx


class ContaminationAction(StrEnum):
    filter = "filter"
    study = "study"


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Examples of one benchmark: a row of JSONL each, plain or compressed."""

    path: str
    fields: list[str] | None = None  # whose text makes up an example; null: all that hold text
    synthetic: bool = False  # examples made by a program: the study's N may be below min_n
    scores: str | None = None  # JSONL with a "score" for each example, in their order


@dataclass(frozen=True, kw_only=True)
class ContaminationConfig:
    """13-gram overlap with benchmarks, after appendix C of Brown et al. (2020)."""

    action: ContaminationAction
    benchmarks: dict[str, BenchmarkConfig]
    out: str | None  # the folder of filtered text and reports; null: contamination/CORPUS-ACTION
    n: int  # filter: words of a gram
    window: int  # filter: characters removed on either side of a gram
    min_piece: int  # filter: characters; shorter pieces are dropped
    max_pieces: int  # filter: documents cut into more are dropped
    max_documents: int  # filter: grams found in more documents are ignored
    min_n: int  # study: least N, and the words of the shortest example that is judged
    max_n: int  # study: largest N


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


class BadLoss(StrEnum):
    """What is done where the loss is no number any more, or has spiked."""

    stop = "stop"
    skip = "skip"  # back to the newest checkpoint, and past the batches that did it


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
    async_save: bool  # a checkpoint is written beside the training, from a copy in host memory
    on_bad_loss: BadLoss
    spike_factor: float | None  # so many times the usual loss is bad; null: what is no number
    spike_window: int  # steps before, whose median is the usual loss
    skip_batches: int  # the bad one and those before it, at most back to the checkpoint
    max_skips: int  # steps of a run that may be skipped
    allow_changes: bool  # a run may go on with another optimizer, schedule, batch or precision


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
class ParityConfig:
    steps: int  # that both runs take


class PlanFormat(StrEnum):
    table = "table"
    json = "json"
    html = "html"  # one self-contained page


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    search: bool  # rank all valid layouts of the ranks at hand
    trace: bool  # execute the engine's own code on fake tensors, stage by stage
    margin: float  # of the memory that a layout of a search leaves free
    top: int  # layouts of a search that are shown
    out: str | None  # the page that format=html writes; null: plan.html
    timeline: str | None  # a file for the schedule in Chrome's and Perfetto's format


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
    tasks: dict[str, TaskConfig]
    evaluate: EvaluateConfig
    scaling: ScalingConfig
    parity: ParityConfig
    convert: ConvertConfig
    plan: PlanConfig
    contamination: ContaminationConfig
    device: DeviceName
    precision: Precision
    run_dir: str | None
    checkpoint: str | None
    format: PlanFormat  # of what `plan` answers
    debug: bool
