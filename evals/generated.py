"""Generated test sets with answers by rule, from a seed: arithmetic, scrambled words, retrieval.

The first two are Brown et al. (2020), sections 3.9.1 and 3.9.2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from corpus.machine.arithmetic import KINDS, Problem, ProblemKind, draw, questions
from corpus.machine.retrieval import TEST_TOKENS, haystacks
from evals.examples import Example

WORDS = 10_000  # the most frequent ones
INSTRUCTION = "Please unscramble the letters into a word, and write that word:"
_INSERTED = "!.,;:'\"?/\\-_ "


def arithmetic_tests(name: str, seed: int, count: int) -> list[Example]:
    """Up to `count` distinct problems of the kind `name`, deterministic for each seed."""
    return [_asked(problem) for problem in questions(KINDS[name], seed, count)]


def arithmetic_shots(name: str, seed: int, count: int, tests: Sequence[Example]) -> list[Example]:
    """Problems that are not in the tests, to be shown before them."""
    kind: ProblemKind = KINDS[name]
    asked = {example.context for example in tests}
    generator = random.Random(f"shots {seed}/{name}")
    found: list[Example] = []
    while len(found) < count:
        example = _asked(draw(kind, generator))
        if example.context not in asked:
            found.append(example)
    return found


def _asked(problem: Problem) -> Example:
    return Example(context=problem.context, answers=(problem.completion,))


def retrieval_tests(name: str, seed: int) -> list[Example]:
    """Haystacks of the length that `name` says, by the depth of the needle."""
    return [
        Example(context=test.text, answers=(test.answer,))
        for test in haystacks(TEST_TOKENS[name], seed)
    ]


def scrambled(name: str, words: Sequence[str], seed: int) -> list[Example]:
    """One example of each word that the manipulation changes."""
    generator = random.Random(f"{seed}/{name}")
    examples = []
    for word in words:
        changed = SCRAMBLES[name](word, generator)
        if changed != word:
            examples.append(Example(context=f"\n{changed} =", answers=(f" {word}",)))
    generator.shuffle(examples)
    return examples


def scrambled_words(counts: dict[str, int]) -> list[str]:
    """The most frequent words of 5 to 14 letters, most frequent first."""
    fitting = [word for word in counts if 4 < len(word) < 15 and word.isascii() and word.isalpha()]
    return sorted(fitting, key=lambda word: (-counts[word], word))[:WORDS]


def _cycled(word: str, generator: random.Random) -> str:
    by = generator.randrange(1, len(word))
    return word[by:] + word[:by]


def _anagram(kept: int) -> Callable[[str, random.Random], str]:
    """Shuffles all letters but the first and last `kept`."""

    def scramble(word: str, generator: random.Random) -> str:
        inner = list(word[kept:-kept])
        generator.shuffle(inner)
        return word[:kept] + "".join(inner) + word[-kept:]

    return scramble


def _inserted(word: str, generator: random.Random) -> str:
    """A random punctuation or space character after each letter but the last."""
    return "".join(letter + generator.choice(_INSERTED) for letter in word[:-1]) + word[-1]


def _reversed(word: str, _generator: random.Random) -> str:
    return word[::-1]


SCRAMBLES: dict[str, Callable[[str, random.Random], str]] = {
    "cycle_letters_in_word": _cycled,
    "mid_word_1_anagrams": _anagram(1),
    "mid_word_2_anagrams": _anagram(2),
    "random_insertion_in_word": _inserted,
    "reversed_words": _reversed,
}
