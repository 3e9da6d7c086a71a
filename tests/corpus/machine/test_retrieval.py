"""Facts and their questions: rightly answered, and as long as they say."""

from __future__ import annotations

import re
from itertools import chain, islice

import pytest

from corpus.machine.retrieval import FILLERS, TESTS, THINGS, haystacks, retrieval_documents

FACT = re.compile(r" The (\w+) is (\w+)\.")
QUESTION = re.compile(r" Which (\w+)\? (\w+)\.")
TOKEN = re.compile(r"\w+|[.?]")


def facts_of(text: str) -> dict[str, tuple[int, str]]:
    """Of each kind where it is said, and the thing; each is said once."""
    found = {match[1]: (match.start(), match[2]) for match in FACT.finditer(text)}
    assert len(found) == len(FACT.findall(text))
    assert all(thing in THINGS[kind] for kind, (_, thing) in found.items())
    return found


def test_a_thing_is_of_one_kind_and_said_in_facts_alone() -> None:
    things = list(chain.from_iterable(THINGS.values()))
    assert len(set(things)) == len(things)
    assert not {*things, *THINGS} & set(TOKEN.findall("".join(FILLERS)))


@pytest.mark.parametrize("longest", [512, 2048])
def test_what_is_asked_was_said_before_and_once(longest: int) -> None:
    lengths, asked = [], 0
    for document in islice(retrieval_documents(longest), 200):
        facts = facts_of(document.text)
        for found in QUESTION.finditer(document.text):
            place, thing = facts[found[1]]
            assert place < found.start()
            assert found[2] == thing
            asked += 1
        lengths.append(len(TOKEN.findall(document.text)))
    assert asked > 1000
    assert max(lengths) < longest + 8  # it ends after the sentence that reaches it
    assert min(lengths) < longest / 6 < longest / 2 < max(lengths)


@pytest.mark.parametrize("tokens", [512, 2048])
def test_a_needle_is_said_once_at_its_depth(tokens: int) -> None:
    tests = haystacks(tokens, 0)
    assert tests == haystacks(tokens, 0) != haystacks(tokens, 1)
    assert len({test.text for test in tests}) == len(tests) == TESTS
    for test in tests:
        assert tokens - 20 < len(TOKEN.findall(test.text)) <= tokens - 5
        facts = facts_of(test.text)
        assert set(facts) == set(THINGS)
        kind = test.text.rpartition(" ")[2].removesuffix("?")
        place, thing = facts[kind]
        assert test.answer == f" {thing}"
        assert place / len(test.text) == pytest.approx(test.depth, abs=50 / tokens)
    # A part of them is a fair sample of the depths.
    assert sum(test.depth for test in tests[:40]) / 40 == pytest.approx(0.5, abs=0.15)
