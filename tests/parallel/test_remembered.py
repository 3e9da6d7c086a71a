"""Functions of a layout that are called once for what they read of it."""

from __future__ import annotations

import random
from dataclasses import replace

from configs.schema import ContextBy
from parallel.layout import Layout
from parallel.remembered import Remembered

SIZES = (1, 2, 4)


def shapes(count: int) -> list[Layout]:
    chance = random.Random(3)
    return [
        Layout(
            tensor=chance.choice(SIZES),
            context=chance.choice(SIZES),
            data=chance.choice(SIZES),
            pipeline=chance.choice(SIZES),
            context_by=chance.choice([None, *ContextBy]),
        )
        for _ in range(count)
    ]


def test_it_is_called_once_for_what_it_reads() -> None:
    calls = []

    def answer(layout: Layout) -> int:
        calls.append(layout)
        # What is read next depends on what was read before.
        return layout.world_size if layout.tensor == 2 else 100 * layout.copies

    remembered = Remembered(answer)
    layouts = shapes(500)
    assert [remembered(each) for each in layouts] == [answer(each) for each in layouts]
    of_two = {(each.context, each.data, each.pipeline) for each in layouts if each.tensor == 2}
    of_others = {(each.tensor, each.context, each.data) for each in layouts if each.tensor != 2}
    assert len(calls) - len(layouts) == len(of_two) + len(of_others)


def test_one_may_ask_another() -> None:
    inner = Remembered(lambda layout: layout.tensor * layout.data)
    outer = Remembered(lambda layout: inner(layout) + layout.pipeline)
    for each in shapes(300):
        assert outer(each) == each.tensor * each.data + each.pipeline
        assert inner(each) == each.tensor * each.data


def test_it_knows_what_decides() -> None:
    remembered = Remembered(lambda layout: layout.tensor == 1 or layout.micro_batch > 1)
    assert not remembered.asks(Layout(), ["micro_batch"])
    assert remembered.asks(Layout(tensor=2), ["micro_batch"])
    assert not remembered.constant
    constant = Remembered(lambda layout: 3)
    assert [constant(each) for each in shapes(3)] == [3, 3, 3]
    assert constant.constant


def test_a_changed_copy_is_another() -> None:
    remembered = Remembered(lambda layout: layout.tensor)
    assert remembered(Layout(tensor=2)) == 2
    assert remembered(replace(Layout(tensor=2), tensor=4)) == 4
