"""Ids: UUIDv7, unique, and in the order of their making."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from hub.ids import CHANCE, new_id


def test_an_id_is_a_uuid_of_version_7() -> None:
    id = UUID(new_id())
    assert (id.version, id.variant) == (7, RFC_4122)


def test_the_first_48_bits_are_the_time_in_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    stamp = UUID(new_id()).int >> 80
    assert before <= stamp <= time.time_ns() // 1_000_000


@given(st.integers(0, 2**48 - 1))
def test_given_milliseconds_are_the_time_of_the_id(milliseconds: int) -> None:
    id = UUID(new_id(milliseconds))
    assert (id.int >> 80, id.version, id.variant) == (milliseconds, 7, RFC_4122)


def test_ids_are_unique_even_within_one_millisecond() -> None:
    assert len({new_id(1) for _ in range(10_000)}) == 10_000
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_a_child_process_makes_other_ids() -> None:
    """What the parent has not used yet of what it was given by chance is not the child's to use."""
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_id(1).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(reading, 100).decode()
    os.close(reading), os.close(writing)
    assert UUID(told).version == 7
    assert told not in {new_id(1) for _ in range(2 * CHANCE)}


def test_threads_make_different_ids() -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: [new_id(1) for _ in range(2 * CHANCE)], range(8)))
    assert len({id for ids in made for id in ids}) == 8 * 2 * CHANCE


def test_ids_sort_in_the_order_of_their_making() -> None:
    """Lists are sorted by id: what was made later is newer, also within a millisecond."""
    ids = []
    for _ in range(2000):
        ids.append(new_id())
        until = time.time_ns() + 1000
        while time.time_ns() < until:
            pass
    assert ids == sorted(ids)


def test_the_text_has_one_spelling() -> None:
    id = new_id()
    assert id == str(UUID(id)) and len(id) == 36
