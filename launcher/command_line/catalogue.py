"""The commands of `phalanx`: what each does, its own settings, and examples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command as described in help."""

    does: str  # in the list of commands
    about: str
    own: tuple[str, ...] = ()  # settings, config groups, or all settings of a group as `plan.*`
    more: tuple[tuple[str, str], ...] = ()  # its own arguments that are not settings
    shared: tuple[str, ...] = ()
    examples: tuple[tuple[str, str], ...]  # arguments of `phalanx`, and what they do


_PLACE = ("device", "precision", "layout")

COMMANDS = {
    "plan": Command(
        does="predicts a layout's memory, traffic, time and cost",
        about="Predicts, before anything is queued, whether a layout fits, how fast it trains, how "
        "long training takes and what it costs. Needs no GPU or cluster. plan.search=true ranks "
        "all layouts; plan.trace=true runs the engine's own code on fake tensors.",
        own=("format", "plan.*"),
        more=(
            (
                "calibrate run_dir=[RUN,...]",
                "fits the constants of plans to finished runs of one model on one kind of GPU",
            ),
        ),
        shared=(
            *("model", "layout", "cluster", "cluster.nodes", "engine", "precision"),
            *("train.global_batch", "cluster.dollars_per_hour", "checkpoint"),
        ),
        examples=(
            ("plan model=gpt3_175b cluster=single_v100", "the often quoted 355 years of GPT-3"),
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
        about="Checks the run, prints which rank holds what and what will be read, prepares the "
        "corpus if necessary, and trains. Everything is kept in a run directory; given again, the "
        "run resumes from its newest checkpoint, under the same layout and engine or another.",
        own=(
            *("train.steps", "train.global_batch", "train.seed", "train.save_every"),
            *("train.stop_after", "train.eval_every", "train.on_bad_loss"),
            *("optimizer.learning_rate", "log.wandb"),
        ),
        more=(("--dry-run", "checks and prints everything, starts and writes nothing"),),
        shared=(
            *("model", "layout", "engine", "corpus", "corpus.text", "run_dir", "checkpoint"),
            *("device", "precision", "launch", "cluster", "cluster.nodes", "experiment"),
        ),
        examples=(
            ("train", "a small GPT-3 on four ranks of this machine"),
            ("train corpus.text=my_texts/ layout=tp2 run_dir=runs/mine", "on your own text"),
            ("train run_dir=runs/mine layout=pp2", "resumes from its last checkpoint"),
        ),
    ),
    "status": Command(
        does="shows a run's state: its jobs, last step and checkpoints",
        about="Reads a run directory and asks SLURM for the run's jobs: the last step and its "
        "loss, the newest checkpoint, how often it was started, and how it ended.",
        own=("run_dir",),
        examples=(
            ("status run_dir=runs/mine", "one run"),
            ("status --multirun run_dir=runs/mine,runs/theirs", "several"),
            ("status run_dir=/scratch/runs/13b", "a run on a cluster, from any of its nodes"),
        ),
    ),
    "cancel": Command(
        does="makes a run save and end, along with its jobs",
        about="Signals a run's SLURM jobs to end. Its ranks agree on a step and save, and the run "
        "can be resumed later. A file STOP in the run directory does the same to a run "
        "without jobs.",
        own=("run_dir",),
        examples=(
            ("cancel run_dir=runs/mine", "one run"),
            ("cancel --multirun run_dir=runs/mine,runs/theirs", "several"),
            ("cancel run_dir=/scratch/runs/13b", "a run on a cluster, from any of its nodes"),
        ),
    ),
    "prepare": Command(
        does="converts text, JSONL or WARC/WET to token files, by source",
        about="Creates the token files of a corpus, once, with several processes; if killed, it "
        "continues where it stopped. Damaged records are skipped, counted and listed. `phalanx "
        "train` prepares its corpus itself on CPU; before a GPU job, run this command first.",
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
        about="Finds overlap between training text and benchmarks, by the rules of GPT-3's "
        "paper. The study marks each example clean or dirty and compares scores on both; the "
        "filter writes the text without the overlap.",
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
                "only these fields",
            ),
        ),
    ),
    "generate": Command(
        does="generates text from a checkpoint, under any tensor x pipeline layout",
        about="Continues a prompt. The model is a run's newest checkpoint, any checkpoint, or "
        "a folder in one of Hugging Face's formats; its shape is the saved one.",
        own=("generate.*",),
        shared=("run_dir", "checkpoint", *_PLACE),
        examples=(
            ('generate run_dir=runs/mine generate.prompt="The "', "prints text as it is generated"),
            ("generate run_dir=runs/mine generate.interactive=true", "one prompt per line"),
            (
                "generate checkpoint=gpt2/ generate.file=prompts.jsonl generate.out=texts.jsonl",
                "many prompts",
            ),
        ),
    ),
    "evaluate": Command(
        does="scores a model on tasks, zero-shot, one-shot and few-shot",
        about="Evaluates a model as in GPT-3's paper. Arithmetic, scrambled words and retrieval "
        "are generated from a seed; other tasks are read from a path. evaluate.harness runs "
        "tasks of EleutherAI's lm-evaluation-harness instead.",
        own=("task", "tasks.NAME.path", "tasks.NAME.train", "evaluate.*"),
        shared=("run_dir", "checkpoint", *_PLACE),
        examples=(
            ("evaluate run_dir=runs/mine task=[arithmetic,scramble]", "tasks of two files"),
            (
                "evaluate run_dir=runs/mine task=reading tasks.reading.path=dev.jsonl "
                "tasks.reading.train=train.jsonl",
                "your own file, in BoolQ's format",
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
        "intervals, and predicts the loss of the run composed here. A finished run of "
        "that model is excluded from the fit and shown beside it.",
        own=("scaling.*",),
        shared=("model", "experiment", "train.steps"),
        examples=(
            ("scaling model=scaling_256", "predicts the family's largest model"),
            ("scaling model=scaling_256 scaling.confidence=0.5", "narrower intervals"),
            ("scaling scaling.runs=runs/mine scaling.out=figures/", "runs of your own"),
        ),
    ),
    "convert": Command(
        does="converts a checkpoint to or from Hugging Face's formats (safetensors)",
        about="Writes a checkpoint as a GPT-2, Llama, Mistral, Mixtral, Qwen 2 or 3, GPT-NeoX, "
        "OLMo 2 or OLMoE that transformers loads, in `precision`, or creates a run from such a "
        "folder, for inference or further training. Only weights are converted, a few rows at a "
        "time. GPT-3's banded layers have no equivalent: train with model.attention=dense.",
        own=("convert.*",),
        shared=("run_dir", "checkpoint", "precision"),
        examples=(
            ("convert run_dir=runs/mine convert.to=half precision=fp16", "the newest checkpoint"),
            ("convert convert.source=llama/ run_dir=runs/theirs", "the other direction"),
            ("convert run_dir=runs/theirs convert.to=out convert.family=mistral", "not as a llama"),
        ),
    ),
    "parity": Command(
        does="compares training under two layouts or engines: layout=A against=B",
        about="Trains a few steps twice from one seed, and compares losses, gradient norms and "
        "every tensor. If they differ, the exit status is 1 and the first tensor that differs "
        "is named.",
        own=("parity.steps",),
        more=(
            ("against=LAYOUT", "the other run's layout"),
            ("against.SETTING=VALUE", "any other setting of the other run"),
        ),
        shared=("layout", "engine", "precision", "device", "model"),
        examples=(
            ("parity layout=tp2 against=pp2", "two layouts"),
            ("parity layout=dp2 against.engine=deepspeed against.layout.zero=3", "two engines"),
            ("parity layout=single against.precision=bf16", "what bfloat16 changes"),
        ),
    ),
    "doctor": Command(
        does="shows what this machine has, and what works on it",
        about="Checks Python, CUDA, NCCL, compilers, the packages and SLURM, and explains what "
        "each finding means for a run. Where CUDA is chosen, every GPU multiplies, a kernel is "
        "compiled and all GPUs add up numbers; with device=cuda the exit status is 1 if any of it "
        "fails.",
        shared=("run_dir", "device"),
        examples=(
            ("doctor", "this machine"),
            ("doctor device=cuda", "fails if something that CUDA needs does not work"),
            ("doctor run_dir=/scratch/runs", "also checks the disk that runs are kept on"),
        ),
    ),
}
