"""The typed configuration of asking a model: generation, tasks, evaluation, power laws."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Which text is generated, and how its tokens are chosen."""

    prompt: str  # what the text begins with
    file: str | None  # prompts in its place, one a line; of .jsonl: "prompt" of each line
    out: str | None  # JSONL with "prompt", "text" and what "ended" it; null: the terminal
    interactive: bool  # a prompt from each line that is typed
    title: str | None  # of a news article to write, in the paper's form, in place of a prompt
    subtitle: str  # subtitle of that article
    articles: str | None  # JSONL with title, subtitle and article, which come before it; null: none
    tokens: int  # most tokens of an answer
    stop: list[str]  # text ends before any of these
    temperature: float  # how freely tokens are drawn; 0: always the likeliest
    top_p: float  # tokens are drawn from the likeliest that have this probability together
    beams: int  # width of a beam search; 0: none
    seed: int  # of the tokens that are drawn


class Scoring(StrEnum):
    """How an answer is judged."""

    match = "match"  # what the model writes is one of the answers, to the letter
    loose_match = "loose_match"  # the same, but for case, punctuation and articles
    cloze = "cloze"  # the answer is what the model finds likeliest, token by token
    choice = "choice"  # the answer is the likeliest of the choices
    bleu = "bleu"  # what the model writes, by SacreBLEU
    none = "none"  # not at all: people are to read it


class Normalise(StrEnum):
    """What the likelihood of a choice is divided by."""

    none = "none"  # nothing
    tokens = "tokens"  # the number of its tokens
    answer = "answer"  # its likelihood after `answer_context` alone


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """A task in the paper's form; a file of configs/task defines one or several."""

    # how a row becomes a question: of evals.forms, or arithmetic, scramble, from the seed
    form: str
    zero_form: str | None  # the form without examples before it; null: the same
    scoring: Scoring  # how an answer is judged
    path: str | None  # JSONL of what is asked; null: made from evaluate.seed
    train: str | None  # JSONL that examples are drawn from; null: what is asked, less itself
    shots: int  # examples under shots=few, less where fewer fit
    instruction: str  # text before everything
    language: str  # the language that is translated into
    normalise: Normalise  # what the likelihood of a choice is divided by
    answer_context: str  # what comes before an answer under normalise=answer
    tokens: int  # most tokens of an answer
    stop: list[str]  # an answer ends before any of these
    beams: int  # width of a beam search; 0: the likeliest token
    synthetic: bool  # made by a program: overlap of fewer words counts


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which tasks a model is asked, with how many examples, and where results go."""

    tasks: list[str] | None  # names of those to ask, of the ones that are defined; null: all
    shots: list[str]  # examples before each question; few: the task's own number
    limit: int | None  # most questions of a task; null: all, or 2,000 of those made from a seed
    seed: int  # of made questions, and of which examples are shown
    tokens_at_once: int  # tokens of a batch, which bounds memory
    contamination: bool  # marks questions clean or dirty by the corpus, and scores them apart
    words: str | None  # WORD or WORD COUNT a line, to be scrambled; null: words of this machine
    harness: list[str]  # tasks of EleutherAI's lm-evaluation-harness, in place of ours
    harness_path: str | None  # a folder with more such tasks; null: none
    out: str | None  # folder of the results; null: evaluations/ beside the checkpoints


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """Which runs a power law is fitted to, and with what confidence."""

    runs: str  # the folder of the runs that a power law is fitted to
    confidence: float  # probability that its intervals hold
    out: str | None  # folder of the figure; null: that of the runs
