"""The commands of `phalanx`: what each does, which settings are its own, and examples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What help shows of a command."""

    does: str  # in the list of commands
    about: str
    own: tuple[str, ...] = ()  # settings, groups of files, or all of a group as `plan.*`
    more: tuple[tuple[str, str], ...] = ()  # arguments of its own that are no settings
    shared: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...]  # what is typed behind `phalanx`, and what it does


_PLACE = ("device", "precision", "layout")

COMMANDS = {
    "plan": Command(
        does="dry run: what a layout costs in memory, traffic, time and money",
        about="Says before anyone queues whether a layout fits, how fast it is, how long the "
        "training takes and what it costs. Needs no GPU and no cluster. plan.search=true ranks "
        "all layouts; plan.trace=true executes the engine's own code on tensors without memory.",
        own=("format", "plan.*"),
        shared=(
            *("model", "layout", "cluster", "cluster.nodes", "engine", "precision"),
            *("train.global_batch", "cluster.dollars_per_hour"),
        ),
        examples=(
            ("plan model=gpt3_175b cluster=single_v100", "355 years, as is told of GPT-3"),
            (
                "plan model=gpt3_13b cluster=dgx_h100 cluster.nodes=8 precision=bf16 "
                "plan.search=true",
                "the best layout for 64 GPUs",
            ),
            ("plan layout=pp2 format=json", "one object, for scripts"),
        ),
    ),
    "train": Command(
        does="trains a model; an existing run_dir=DIR is resumed",
        about="Checks the run, shows which rank holds what and what will be read, prepares the "
        "corpus if need be, and trains. A run directory keeps all of it; given again, it goes on "
        "from its newest checkpoint, under the same layout and engine or another.",
        own=(
            *("train.steps", "train.global_batch", "train.seed", "train.save_every"),
            *("train.stop_after", "train.eval_every", "train.on_bad_loss"),
            *("optimizer.learning_rate", "log.wandb"),
        ),
        more=(("--dry-run", "shows and checks everything, starts and writes nothing"),),
        shared=(
            *("model", "layout", "engine", "corpus", "corpus.text", "run_dir", "checkpoint"),
            *("device", "precision", "launch", "cluster", "cluster.nodes", "experiment"),
        ),
        examples=(
            ("train", "a small GPT-3 on four ranks of this machine"),
            ("train corpus.text=my_texts/ layout=tp2 run_dir=runs/mine", "on your own text"),
            ("train run_dir=runs/mine layout=pp2", "goes on from its last checkpoint"),
        ),
    ),
    "status": Command(
        does="how a run stands: its jobs, its last step, what it saved",
        about="Reads a run directory and asks SLURM for the run's jobs: the last step and its "
        "loss, the newest checkpoint, how often it was started, and how it ended.",
        own=("run_dir",),
        examples=(
            ("status run_dir=runs/mine", "one run"),
            ("status --multirun run_dir=runs/mine,runs/theirs", "several"),
            ("status run_dir=/scratch/runs/13b", "a run of a cluster, from any of its nodes"),
        ),
    ),
    "cancel": Command(
        does="a run saves and ends, and its jobs with it",
        about="Tells the SLURM jobs of a run to end. Its ranks agree on a step, save, and the run "
        "may go on another time. A file STOP in the run directory does the same to a run "
        "without jobs.",
        own=("run_dir",),
        examples=(
            ("cancel run_dir=runs/mine", "one run"),
            ("cancel --multirun run_dir=runs/mine,runs/theirs", "several"),
            ("cancel run_dir=/scratch/runs/13b", "a run of a cluster, from any of its nodes"),
        ),
    ),
    "prepare": Command(
        does="text, JSONL or WARC/WET to token files, by source",
        about="Makes token files of a corpus, once: several processes at a time, and where it is "
        "killed it goes on from there. What is damaged is skipped, counted and listed. `phalanx "
        "train` does it by itself on CPU; before a GPU job it is to be done here.",
        own=(
            *("corpus", "corpus.text", "corpus.root", "corpus.sources.NAME.path"),
            *("corpus.sources.NAME.field", "corpus.sources.NAME.weight", "corpus.decontaminate"),
            *("corpus.workers", "corpus.cache"),
        ),
        shared=("model", "model.tokenizer", "model.vocab", "model.context"),
        examples=(
            ("prepare corpus.text=my_texts/", "a file, a folder or a pattern"),
            (
                "prepare corpus.text='texts/*.jsonl.gz' model.tokenizer=gpt2 model.vocab=50257",
                "with GPT-2's tokenizer",
            ),
            ("prepare corpus=gpt3 corpus.root=/data model=gpt3_175b", "the paper's five sources"),
        ),
    ),
    "decontaminate": Command(
        does="13-gram overlap with benchmarks: filters text, or marks examples",
        about="Finds what training text and benchmarks have in common, by the rules of GPT-3's "
        "paper. The study marks each example clean or dirty and compares scores on both; the "
        "filter writes the text without what overlaps.",
        own=(
            *("contamination.action", "contamination.benchmarks"),
            *("contamination.benchmarks.NAME.path", "contamination.benchmarks.NAME.fields"),
            *("contamination.benchmarks.NAME.scores", "contamination.out"),
            *("contamination.n", "contamination.min_n", "contamination.max_n"),
        ),
        shared=("corpus", "corpus.text", "corpus.root"),
        examples=(
            (
                "decontaminate corpus.text=texts/ +contamination.benchmarks.boolq.path=boolq.jsonl",
                "the study",
            ),
            (
                "decontaminate contamination.action=filter corpus.text=texts/ "
                "+contamination.benchmarks.boolq.path=boolq.jsonl",
                "the filter",
            ),
            (
                "decontaminate +contamination.benchmarks.mine.path=mine.jsonl "
                "'+contamination.benchmarks.mine.fields=[question,passage]'",
                "only what these fields hold",
            ),
        ),
    ),
    "generate": Command(
        does="text from a checkpoint, under any tensor x pipeline layout",
        about="Goes on with a prompt. The model is a run's newest checkpoint, any checkpoint, or "
        "a folder in Hugging Face's GPT-2 format; its shape is what was saved.",
        own=("generate.*",),
        shared=("run_dir", "checkpoint", *_PLACE),
        examples=(
            ('generate run_dir=runs/mine generate.prompt="The "', "shows the text as it comes"),
            ("generate run_dir=runs/mine generate.interactive=true", "a prompt a line"),
            (
                "generate checkpoint=gpt2/ generate.file=prompts.jsonl generate.out=texts.jsonl",
                "many prompts",
            ),
        ),
    ),
    "evaluate": Command(
        does="scores on tasks with none, one and a few examples shown before them",
        about="Asks a model as GPT-3 was asked, and scores its answers. Arithmetic and scrambled "
        "words are made from a seed; other tasks are read from a path. evaluate.harness runs "
        "tasks of EleutherAI's lm-evaluation-harness in their place.",
        own=("task", "tasks.NAME.path", "tasks.NAME.train", "evaluate.*"),
        shared=("run_dir", "checkpoint", *_PLACE),
        examples=(
            ("evaluate run_dir=runs/mine task=[arithmetic,scramble]", "tasks of two files"),
            (
                "evaluate run_dir=runs/mine task=reading tasks.reading.path=dev.jsonl "
                "tasks.reading.train=train.jsonl",
                "your own file, in BoolQ's form",
            ),
            (
                "evaluate run_dir=runs/mine evaluate.harness=[lambada_openai] evaluate.shots=[0]",
                "a task of the harness",
            ),
        ),
    ),
    "scaling": Command(
        does="fits power laws to finished runs, and predicts another",
        about="Fits the loss of finished runs against parameters, tokens and compute, with "
        "intervals, and says what the run that is composed here will come to. A finished run of "
        "that model is left out of the fit and shown beside it.",
        own=("scaling.*",),
        shared=("model", "experiment", "train.steps"),
        examples=(
            ("scaling model=scaling_256", "what the family's largest will come to"),
            ("scaling model=scaling_256 scaling.confidence=0.5", "narrower intervals"),
            ("scaling scaling.runs=runs/mine scaling.out=figures/", "runs of your own"),
        ),
    ),
    "convert": Command(
        does="a checkpoint to and from Hugging Face's GPT-2 format (safetensors)",
        about="Writes a checkpoint as a GPT-2 that transformers loads, in `precision`, or makes "
        "a run of such a folder, to ask or to go on training. Only weights travel. Banded layers "
        "have no GPT-2 equivalent: train with model.attention=dense.",
        own=("convert.*",),
        shared=("run_dir", "checkpoint", "precision"),
        examples=(
            ("convert run_dir=runs/mine convert.to=gpt2_of_mine", "the run's newest checkpoint"),
            ("convert checkpoint=runs/mine convert.to=half precision=fp16", "in half precision"),
            ("convert convert.source=gpt2/ run_dir=runs/theirs", "the other way"),
        ),
    ),
    "parity": Command(
        does="trains the same under two layouts or engines: layout=A against=B",
        about="Trains a few steps from one seed twice, and compares losses, gradient norms and "
        "every tensor. Where they part the exit status is 1 and the first tensor that differs "
        "is named.",
        own=("parity.steps",),
        more=(
            ("against=LAYOUT", "the other run's layout"),
            ("against.SETTING=VALUE", "anything else of the other run"),
        ),
        shared=("layout", "engine", "precision", "device", "model"),
        examples=(
            ("parity layout=tp2 against=pp2", "two layouts"),
            ("parity layout=dp2 against.engine=deepspeed against.layout.zero=3", "two engines"),
            ("parity layout=single against.precision=bf16", "what bfloat16 changes"),
        ),
    ),
    "doctor": Command(
        does="what this machine has, and what will work on it",
        about="Looks for Python, CUDA, NCCL, a compiler, the packages and SLURM, and says what "
        "each finding means for a run.",
        shared=("run_dir",),
        examples=(
            ("doctor", "this machine"),
            ("doctor run_dir=/scratch/runs", "and the disk that runs are to be kept on"),
            ("doctor --multirun run_dir=runs,/scratch", "and two disks"),
        ),
    ),
}
