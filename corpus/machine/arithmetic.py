"""Arithmetic in words, after Brown et al. (2020), section 3.9.1: tests and training text.

Two to five digits added and subtracted, two multiplied, and three single digits with two operators:
numbers uniform on [0, 10^digits), answers may be negative. Questions read as in the files that
OpenAI released, parentheses round the first two numbers included (the paper has the last two).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from corpus.machine.documents import Named

CONTEXT = "\n\nQ: What is {problem}?\n\nA:"
COMPLETION = " {answer}"
TESTS = 2000
TEST_SEED = 0
_PROBLEMS = 4  # maximum per document of training text
_DOCUMENTS = 400_000
_WORDS = {"plus": "addition", "minus": "subtraction", "times": "multiplication"}
_DIGITS = ("two", "three", "four", "five")
THREE_OPERATORS = "single_digit_three_ops"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One of the ten tasks, by the name of its file."""

    name: str
    digits: int
    operator: str  # plus, minus, times; empty: three numbers


KINDS = {
    kind.name: kind
    for kind in (
        *(ProblemKind(f"{_DIGITS[d - 2]}_digit_addition", d, "plus") for d in range(2, 6)),
        *(ProblemKind(f"{_DIGITS[d - 2]}_digit_subtraction", d, "minus") for d in range(2, 6)),
        ProblemKind("two_digit_multiplication", 2, "times"),
        ProblemKind(THREE_OPERATORS, 1, ""),
    )
}
SHARES = {  # of the training text; the others share the rest
    "two_digit_addition": 0.6,
    "two_digit_subtraction": 0.1,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem without its question, and its answer."""

    text: str  # 98 plus 45
    answer: int

    @property
    def context(self) -> str:
        """The question up to the answer, as a prompt."""
        return CONTEXT.format(problem=self.text)

    @property
    def completion(self) -> str:
        """The answer with the space before it, as the expected continuation."""
        return COMPLETION.format(answer=self.answer)


def draw(kind: ProblemKind, generator: random.Random) -> Problem:
    """One problem, uniform over all of its kind."""
    if not kind.operator:
        a, b, c = (generator.randrange(10) for _ in range(3))
        first, second = (generator.choice("+-*") for _ in range(2))
        inner = _of(a, first, b)
        return Problem(f"({a} {first} {b}) {second} {c}", _of(inner, second, c))
    a, b = (generator.randrange(10**kind.digits) for _ in range(2))
    sign = {"plus": "+", "minus": "-", "times": "*"}[kind.operator]
    return Problem(f"{a} {kind.operator} {b}", _of(a, sign, b))


def _of(a: int, sign: str, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def questions(kind: ProblemKind, seed: int = TEST_SEED, count: int = TESTS) -> list[Problem]:
    """Distinct problems of one kind; all of them if there are fewer than `count`."""
    generator = random.Random(f"{seed}/{kind.name}")
    found: dict[str, Problem] = {}
    draws = 0
    while len(found) < count and draws < 1000 * count:
        problem = draw(kind, generator)
        found.setdefault(problem.text, problem)
        draws += 1
    return list(found.values())


def held_out() -> frozenset[str]:
    """The test sets' problems, also with their numbers swapped."""
    texts = {problem.text for kind in KINDS.values() for problem in questions(kind)}
    swapped = set()
    for text in texts:
        first, _, rest = text.partition(" ")
        operator, _, second = rest.partition(" ")
        if operator in ("plus", "times"):
            swapped.add(f"{second} {operator} {first}")
    return frozenset(texts | swapped)


def arithmetic_documents() -> Iterator[Named]:
    """Problems for training, several per document, none of them in a test set."""
    out = held_out()
    generator = random.Random("text")
    kinds = list(KINDS.values())
    rest = (1 - sum(SHARES.values())) / (len(kinds) - len(SHARES))
    weights = [SHARES.get(kind.name, rest) for kind in kinds]
    for number in range(_DOCUMENTS):
        problems: list[Problem] = []
        wanted = generator.randint(1, _PROBLEMS)
        while len(problems) < wanted:
            problem = draw(generator.choices(kinds, weights)[0], generator)
            if problem.text not in out:
                problems.append(problem)
        yield Named(str(number), "".join(it.context + it.completion for it in problems))
