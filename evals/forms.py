"""Prompts and answers in GPT-3's formats: Brown et al. (2020), appendix G.

A form turns a row of data into an example. Rows are those of the released files and of the data
sets themselves. The separator from the previous example is at the beginning of the context.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evals.examples import Example

Row = dict[str, Any]
BLANK = "____."


def released(row: Row) -> Example:
    """{context, completion}: OpenAI's own files; separators are in the data."""
    return Example(context=row["context"], answers=_several(row["completion"]))


def cloze(row: Row) -> Example:
    """{context, continuation}: LAMBADA's passages unchanged, asking for the last word."""
    return Example(context="\n\n" + row["context"].rstrip(), answers=(f" {_word(row)}",))


def blanks(row: Row) -> Example:
    """The same with a blank to fill in (figure G.21), which implies that it takes one word."""
    context = f"\n\n{row['context'].rstrip()} {BLANK} ->"
    return Example(context=context, answers=(f" {_word(row)}",))


def reading(row: Row) -> Example:
    """BoolQ (figure G.29): {passage, question, answer: true or false}, or a ready-made query with
    the choices no and yes.
    """
    if "query" in row:
        passage, _, question = row["query"].removeprefix("Passage:").partition("\nQuestion:")
        gold = str(row["choices"][row["gold"]]).strip().lower()
        row = {"passage": passage.strip(), "question": question.strip(), "answer": gold == "yes"}
    question = row["question"].rstrip("?")
    context = f"\n\n{row['passage']}\nquestion: {question}?\nanswer:"
    return _choice(context, (" no", " yes"), int(bool(row["answer"])))


def entailment(row: Row) -> Example:
    """RTE (figure G.31): {premise, hypothesis, label: 0 where it follows}."""
    context = f"\n\n{row['premise']}\nquestion: {row['hypothesis']} True or False?\nanswer:"
    return _choice(context, (" True", " False"), int(row["label"]))


def closed_book(row: Row) -> Example:
    """{question, answer}: figures G.24, G.34 and G.35; answers may be several."""
    answers = row.get("answers", row.get("answer"))
    return Example(
        context=f"\n\nQ: {row['question']}\n\nA:",
        answers=tuple(f" {answer}" for answer in _several(answers)),
    )


def science(row: Row) -> Example:
    """ARC (figure G.11): {question, choices: {text, label}, answerKey}; {query, choices, gold}."""
    choices: Any = row["choices"]
    gold: Any = row.get("gold")
    if isinstance(choices, dict):
        labels, choices = choices["label"], choices["text"]
        gold = labels.index(row["answerKey"])
    question = row.get("question", row.get("query"))
    context = f"\n\nQuestion: {question}\nAnswer:"
    return _choice(context, tuple(f" {choice}" for choice in choices), int(gold))


def schema(row: Row) -> Example:
    """Winograd's, by partial evaluation (G.13): {context_options, continuation, gold}."""
    contexts = tuple(f"\n\n{context.rstrip()}" for context in row["context_options"])
    continuation = f" {row['continuation'].strip()}"
    return Example(
        context=contexts[row["gold"]],
        contexts=contexts,
        choices=(continuation,) * len(contexts),
        answers=(continuation,),
        gold=int(row["gold"]),
    )


def pair(row: Row) -> Example:
    """{source, target}: a translation in a list of them (figure G.36)."""
    return Example(context=f"\n\n{row['source']} =", answers=(f" {row['target']}",))


def translation(row: Row) -> Example:
    """{source, target, language}: a single translation, which needs an instruction."""
    context = f"\n\nQ: What is the {row['language']} translation of {row['source']} A:"
    return Example(context=context, answers=(f" {row['target']}",))


def novel_word(row: Row) -> Example:
    """{word, definition, sentence}: section 3.9.5; `definition` continues 'A "whatpu" is'."""
    word, said = row["word"], row["definition"]
    context = (
        f"\n{said} An example of a sentence that uses the word {word} is:\n"
        if word in said
        else f'\nA "{word}" is {said} An example of a sentence that uses the word {word} is:\n'
    )
    return Example(context=context, answers=(row.get("sentence", ""),))


def _choice(context: str, choices: tuple[str, ...], gold: int) -> Example:
    return Example(context=context, choices=choices, answers=(choices[gold],), gold=gold)


def _word(row: Row) -> str:
    return str(row["continuation"]).strip()


def _several(answers: Any) -> tuple[str, ...]:
    return tuple(map(str, answers)) if isinstance(answers, list) else (str(answers),)


FORMS: dict[str, Callable[[Row], Example]] = {
    form.__name__: form
    for form in (
        released,
        cloze,
        blanks,
        reading,
        entailment,
        closed_book,
        science,
        schema,
        pair,
        translation,
        novel_word,
    )
}
