from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from configs.errors import InputError
from corpus.documents import Document, examine
from corpus.split import Split, hold_out


def documents(count: int, length: int = 2_000) -> list[Document]:
    made = []
    for number in range(count):
        text = f"{number:4} line\n" * (length // 10)
        found = examine(text.encode(), name=str(number), source="test")
        assert found is not None
        made.append(found)
    return made


def names(split: Split) -> tuple[set[str], set[str]]:
    return {each.name for each in split.train}, {each.name for each in split.validation}


def size(parts: Sequence[Document]) -> int:
    return sum(part.size for part in parts)


def test_whole_documents_are_held_out() -> None:
    every = documents(400)
    train, validation = names(hold_out(every, 0.1))
    assert not train & validation
    assert len(train) + len(validation) == 400
    assert 20 <= len(validation) <= 60


def test_the_order_of_the_documents_does_not_matter() -> None:
    every = documents(400)
    shuffled = random.Random(1).sample(every, k=400)
    assert names(hold_out(shuffled, 0.1)) == names(hold_out(every, 0.1))


def test_more_documents_move_none_to_the_other_side() -> None:
    train, validation = names(hold_out(documents(400), 0.1))
    more_train, more_validation = names(hold_out(documents(500), 0.1))
    assert train < more_train
    assert validation < more_validation


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_documents_give_up_their_tails(count: int) -> None:
    split = hold_out(documents(count, length=200_000), 0.05)
    assert names(split)[0] == names(split)[1]
    assert size(split.validation) == pytest.approx(
        max(16_384, 0.05 * size(split.documents)), rel=0.01
    )
    assert size(split.train) + size(split.validation) == size(split.documents)


def test_one_huge_document_does_not_take_all_validation_or_give_none() -> None:
    every = [*documents(200, length=1_000), *documents(1, length=1_000_000)]
    split = hold_out(every, 0.1)
    assert 0.025 <= size(split.validation) / size(every) <= 0.4


def test_a_little_text_holds_out_enough_to_evaluate() -> None:
    split = hold_out(documents(1, length=20_000), 0.01)
    assert size(split.validation) == pytest.approx(5_000, rel=0.05)


@pytest.mark.parametrize("fraction", [-0.1, 0, 0.6, 1])
def test_a_fraction_that_leaves_one_side_empty_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=r"corpus\.validation_fraction="):
        hold_out(documents(2), fraction)
