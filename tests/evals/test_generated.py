"""Test sets by the paper's rule."""

from __future__ import annotations

import random

import pytest

from corpus.machine.arithmetic import KINDS, TESTS, arithmetic_documents, held_out, questions
from corpus.machine.retrieval import TEST_TOKENS, haystacks
from evals.generated import (
    SCRAMBLES,
    arithmetic_shots,
    arithmetic_tests,
    retrieval_tests,
    scrambled,
)

WORDS = ["casino", "inevitably", "opportunity", "mankind", "discussion"]


@pytest.mark.parametrize("name", KINDS)
def test_problems_are_of_their_kind_and_answered_rightly(name: str) -> None:
    kind = KINDS[name]
    problems = questions(kind, 0)
    assert len({problem.text for problem in problems}) == len(problems) == TESTS
    assert problems == questions(kind, 0) != questions(kind, 1)
    for problem in problems:
        signs = {"plus": "+", "minus": "-", "times": "*"}
        formula = " ".join(signs.get(word, word) for word in problem.text.split())
        assert eval(formula) == problem.answer  # digits and signs of our own
        if kind.operator:
            assert all(int(word) < 10**kind.digits for word in problem.text.split()[::2])


def test_the_form_is_that_of_the_released_files() -> None:
    example = arithmetic_tests("two_digit_addition", 0, 1)[0]
    question, answer = example.context, example.answers[0]
    assert question.startswith("\n\nQ: What is ")
    assert question.endswith("?\n\nA:")
    first, second = (int(question.split()[place].rstrip("?")) for place in (3, 5))
    assert answer == f" {first + second}"


def test_examples_that_are_shown_are_none_of_the_questions() -> None:
    tests = arithmetic_tests("two_digit_addition", 0, TESTS)
    shown = arithmetic_shots("two_digit_addition", 0, 500, tests)
    assert not {it.context for it in shown} & {it.context for it in tests}


def test_training_text_holds_no_problem_of_a_test_set_either_way_round() -> None:
    out = held_out()
    documents = [next(made).text for made in [arithmetic_documents()] for _ in range(3000)]
    problems = [
        line.removeprefix("Q: What is ").removesuffix("?")
        for text in documents
        for line in text.split("\n")
        if line.startswith("Q: ")
    ]
    assert len(problems) > 5000
    assert not out & set(problems)
    for test in questions(KINDS["two_digit_addition"], 0)[:50]:
        first, _, second = test.text.split()
        assert {f"{first} plus {second}", f"{second} plus {first}"} <= out


def test_a_haystack_is_as_long_as_its_name_says() -> None:
    for name in ("retrieval_512", "retrieval_2048"):
        examples = retrieval_tests(name, 3)
        expected = haystacks(TEST_TOKENS[name], 3)
        assert [(it.context, it.answers) for it in examples] == [
            (test.text, (test.answer,)) for test in expected
        ]


@pytest.mark.parametrize("name", SCRAMBLES)
def test_scrambled_words_have_the_same_letters(name: str) -> None:
    examples = scrambled(name, WORDS, 0)
    assert {it.answers[0].strip() for it in examples} == set(WORDS)
    for example in examples:
        word = example.answers[0].strip()
        said = example.context.removeprefix("\n").removesuffix(" =")
        assert said != word
        assert sorted(it for it in said if it.isalpha()) == sorted(word)


def test_each_scramble_keeps_what_it_should() -> None:
    generator = random.Random(0)
    word = "opportunity"
    assert SCRAMBLES["reversed_words"](word, generator) == "ytinutroppo"
    assert SCRAMBLES["cycle_letters_in_word"](word, generator) in word * 2
    assert SCRAMBLES["mid_word_1_anagrams"](word, generator)[:: len(word) - 1] == "oy"
    kept = SCRAMBLES["mid_word_2_anagrams"](word, generator)
    assert (kept[:2], kept[-2:]) == ("op", "ty")
    assert SCRAMBLES["random_insertion_in_word"](word, generator)[::2] == word
