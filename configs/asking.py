"""The typed configuration of asking a model: generation, tasks, evaluation, power laws."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    prompt: str
    file: str | None  # prompts in its place, one a line; of .jsonl: "prompt" of each line
    out: str | None  # JSONL with "prompt", "text" and what "ended" it
    interactive: bool  # a prompt from each line that is typed
    title: str | None  # of a news article to be written, in the paper's form, in place of a prompt
    subtitle: str
    articles: str | None  # JSONL with title, subtitle and article, which come before it
    tokens: int  # at most
    stop: list[str]  # text ends before any of these
    temperature: float  # 0: the likeliest token
    top_p: float
    beams: int  # 0: no beam search
    seed: int


class Scoring(StrEnum):
    """How an answer is judged."""

    match = "match"  # what the model writes is one of the answers, to the letter
    loose_match = "loose_match"  # but for case, punctuation and articles
    cloze = "cloze"  # the answer is what the model finds likeliest, token by token
    choice = "choice"  # it is the likeliest of the choices
    bleu = "bleu"  # what the model writes, by SacreBLEU
    none = "none"  # people are to read it


class Normalise(StrEnum):
    """What the likelihood of a choice is divided by."""

    none = "none"
    tokens = "tokens"  # their number
    answer = "answer"  # its likelihood after `answer_context` alone


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task in the paper's form; a file of configs/task defines one or several."""

    form: str  # of evals.forms, or made from evaluate.seed: arithmetic, scramble
    zero_form: str | None  # without examples before it; null: `form`
    scoring: Scoring
    path: str | None  # JSONL of what is asked; null: made from the seed
    train: str | None  # JSONL that examples are drawn from; null: what is asked, less itself
    shots: int  # K of shots=few, less where fewer fit
    instruction: str  # before everything
    language: str  # that is translated into
    normalise: Normalise
    answer_context: str  # of normalise=answer
    tokens: int  # of an answer, at most
    stop: list[str]  # an answer ends before any of these
    beams: int  # width of a beam search; 0: the likeliest token
    synthetic: bool  # made by a program: overlap of fewer words counts


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    tasks: list[str] | None  # of those that are defined; null: all
    shots: list[str]  # numbers of examples before each question, and few: the task's own
    limit: int | None  # questions of a task; null: all, and 2,000 of those made from a seed
    seed: int  # of made questions, and of which examples are shown
    tokens_at_once: int  # of a batch, which bounds memory
    contamination: bool  # marks questions clean or dirty by the corpus, and scores them apart
    words: str | None  # WORD or WORD COUNT a line, to be scrambled; null: of this machine's text
    harness: list[str]  # tasks of EleutherAI's lm-evaluation-harness, in place of ours
    harness_path: str | None  # a folder with such tasks
    out: str | None  # folder of results; null: evaluations beside the checkpoints


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    runs: str  # the folder of the runs that a power law is fitted to
    confidence: float  # of its intervals
    out: str | None  # folder of the figure; null: that of the runs
