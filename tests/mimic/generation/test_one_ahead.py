"""Chunks are decoded while the chunk before is written."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mimic.generation.decoding import one_ahead


def test_items_come_in_order_and_the_next_is_made_meanwhile():
    made = [threading.Event() for _ in range(4)]

    def make() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in one_ahead(make()):
        if number + 1 < len(made):
            assert made[number + 1].wait(timeout=10), "the next one was not begun"
        if number + 2 < len(made):
            assert not made[number + 2].is_set(), "more than one is made ahead"
    assert all(event.is_set() for event in made)


def test_an_error_comes_after_what_was_made_before_it():
    def make() -> Iterator[int]:
        yield 1
        raise MemoryError("full")

    items = one_ahead(make())
    assert next(items) == 1
    with pytest.raises(MemoryError, match="full"):
        next(items)


def test_nothing_is_made_after_the_reader_has_stopped():
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    items = one_ahead(make())
    assert next(items) == 0
    items.close()
    assert len(made) <= 2
