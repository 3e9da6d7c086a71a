"""Facts among other words, asked for later: text to learn retrieval from, and tests of it.

A document says one thing of each of several kinds, once, among sentences that say nothing, and asks
for what it has said in between, or at its end only:

    The metal is copper. Rain fell over the old bridge. The fruit is plum. Which metal? copper.

An answer can be taken from an earlier answer; of those at the end alone, each is found in the fact.
A test is a haystack of one length with a needle of every kind, one of which is asked for at the
end, as in the pass keys of Mohtashami & Jaggi (2023). Every word and sign is meant to be one token.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from corpus.machine.documents import Named

KINDS = {
    "metal": "copper iron zinc lead tin gold silver nickel",
    "fruit": "plum lemon pear apple cherry grape melon peach",
    "animal": "fox bear otter hare badger lynx mole deer",
    "tool": "hammer saw chisel pliers file drill anvil wrench",
    "tree": "oak birch elm maple willow cedar larch beech",
    "town": "Bonn Lyon Cork Turin Ghent Basel Leeds Porto",
    "colour": "red blue yellow purple orange pink brown white",
    "dish": "soup bread cheese rice pasta stew pie salad",
}
THINGS = {kind: tuple(words.split()) for kind, words in KINDS.items()}
FILLERS = (
    " Rain fell over the old bridge.",
    " A slow river ran under it.",
    " Bright grass grew on the hill.",
    " Then the road was quiet.",
    " Wind moved the tall leaves.",
    " Grey clouds went past.",
    " Some shadow lay across the field.",
    " Small birds sang until dusk.",
    " Dark water ran below the wall.",
    " Snow lay near the stone.",
    " It was cold and dry.",
)
TESTS = 200
TEST_TOKENS = {f"retrieval_{tokens}": tokens for tokens in (512, 1024, 2048, 4096, 8192)}
SHORTEST = 48  # tokens of a document
_DOCUMENTS = 200_000
_AT_THE_END = 0.5  # of the documents
_ASKED = 0.5  # of the others' sentences
_SENTENCE = 5.5  # tokens, on average
_LEFT = 8  # of a test's tokens, for the question, the answer and what begins a text


def fact(kind: str, thing: str) -> str:
    """Five tokens."""
    return f" The {kind} is {thing}."


def question(kind: str) -> str:
    """Three tokens, after which comes the thing."""
    return f" Which {kind}?"


def retrieval_documents(longest: int) -> Iterator[Named]:
    """Documents of up to `longest` tokens, with lengths that are uniform by their logarithm."""
    for number in range(_DOCUMENTS):
        generator = random.Random(f"{longest}/{number}")
        tokens = math.exp(generator.uniform(math.log(SHORTEST), math.log(longest)))
        yield Named(str(number), _document(round(tokens), generator))


def _document(tokens: int, generator: random.Random) -> str:
    kinds = generator.sample(list(THINGS), len(THINGS))
    # So that the last of them comes before the end.
    chance = 1.5 * len(kinds) * _SENTENCE / tokens
    asked = 0.0 if generator.random() < _AT_THE_END else _ASKED
    said: dict[str, str] = {}
    sentences: list[str] = []
    while tokens > 0:
        drawn = generator.random()
        if len(said) < len(kinds) and (drawn < chance or not said):
            kind = kinds[len(said)]
            said[kind] = generator.choice(THINGS[kind])
            sentence = fact(kind, said[kind])
        elif drawn > 1 - asked:
            sentence = _answered(generator.choice(list(said)), said)
        else:
            sentence = generator.choice(FILLERS)
        sentences.append(sentence)
        tokens -= _length(sentence)
        if not asked and tokens <= 6 * len(said):
            sentences += [_answered(kind, said) for kind in generator.sample(list(said), len(said))]
            break
    return "".join(sentences)


def _answered(kind: str, said: dict[str, str]) -> str:
    """Six tokens."""
    return f"{question(kind)} {said[kind]}."


def _length(text: str) -> int:
    return len(text.split()) + text.count(".") + text.count("?")


@dataclass(frozen=True, slots=True)
class Haystack:
    """A test: where the needle is, from 0 at the beginning to 1, the text and the answer."""

    depth: float
    text: str
    answer: str


def haystacks(tokens: int, seed: int, count: int = TESTS) -> list[Haystack]:
    """Tests of `tokens` tokens; the needles' depths are in even steps, and in no order."""
    steps = list(range(count))
    random.Random(f"{seed}/{tokens}").shuffle(steps)
    return [
        _haystack(tokens, (step + 0.5) / count, random.Random(f"{seed}/{tokens}/{step}"))
        for step in steps
    ]


def _haystack(tokens: int, depth: float, generator: random.Random) -> Haystack:
    kinds = generator.sample(list(THINGS), len(THINGS))
    things = [generator.choice(THINGS[kind]) for kind in kinds]
    facts = [fact(*each) for each in zip(kinds, things, strict=True)]
    room = tokens - _LEFT - sum(map(_length, facts))
    sentences: list[str] = []
    while room > 0:
        sentences.append(generator.choice(FILLERS))
        room -= _length(sentences[-1])
    if room < 0:
        sentences.pop()
    fillers = len(sentences)
    places = [depth, *(generator.random() for _ in facts[1:])]
    for place, each in sorted(zip(places, facts, strict=True), reverse=True):
        sentences.insert(round(place * fillers), each)
    return Haystack(depth, "".join(sentences) + question(kinds[0]), f" {things[0]}")
