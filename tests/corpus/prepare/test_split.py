from __future__ import annotations

import random

import numpy as np
import pytest

from corpus.prepare.split import HeldOut, divide, hold_out


def digests(count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    dice = random.Random(1)
    return np.array([dice.getrandbits(64) for _ in range(count)], np.uint64)


def held(count: int, size: int, fraction: float) -> HeldOut:
    return hold_out(np.full(count, size), digests(count), fraction)


def test_whole_documents_are_held_out() -> None:
    split = held(400, 2_000, 0.1)
    assert split.tail == 0
    assert 20 <= split.documents.sum() <= 60


def test_the_order_of_the_documents_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(400)
    shuffled = hold_out(np.full(400, 2_000), digests(400)[order], 0.1)
    assert (shuffled.documents == held(400, 2_000, 0.1).documents[order]).all()


def test_more_documents_move_none_to_the_other_side() -> None:
    more = held(500, 2_000, 0.1).documents[:400]
    assert (more == held(400, 2_000, 0.1).documents).all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_documents_give_up_their_tails(count: int) -> None:
    split = held(count, 200_000, 0.05)
    assert not split.documents.any()
    assert split.tail == max(0.05, 16_384 / (200_000 * count))


def test_one_huge_document_does_not_take_all_validation_or_give_none() -> None:
    for place in range(200):
        sizes = np.full(201, 1_000)
        sizes[place] = 1_000_000
        split = hold_out(sizes, digests(201), 0.1)
        share = sizes[split.documents].sum() / sizes.sum() or split.tail
        assert 0.025 <= share <= 0.4


def test_a_little_text_holds_out_enough_to_evaluate() -> None:
    assert held(1, 20_000, 0.01).tail == 0.25


@pytest.mark.parametrize("text", ["one\ntwo\nthree\nfour\n", "no line at all " * 10, "x", ""])
def test_head_and_tail_are_the_whole(text: str) -> None:
    for tail in (0.1, 0.5, 0.9):
        assert "".join(divide(text, tail)) == text


def test_the_tail_begins_a_line() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    head, tail = divide(text, 0.1)
    assert head.endswith("\n")
    assert len(tail) == pytest.approx(0.1 * len(text), rel=0.02)
