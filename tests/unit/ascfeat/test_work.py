"""Do results come in order, bounded ahead, and do errors come in their place?"""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascfeat.work import AHEAD_PER_THREAD, ordered


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
def test_order_is_that_of_the_items(delays: list[int], threads: int) -> None:
    def slow(item: tuple[int, int]) -> int:
        time.sleep(item[1] / 5000)
        return item[0]

    assert list(ordered(slow, enumerate(delays), threads=threads)) == list(range(len(delays)))


def test_never_far_ahead_of_the_consumer() -> None:
    begun = []
    results = ordered(lambda i: begun.append(i) or i, range(1000), threads=2)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 1 + AHEAD_PER_THREAD * 2
    results.close()


def test_an_error_comes_in_its_place_and_ends_the_threads() -> None:
    def fail_at_five(i: int) -> int:
        if i == 5:
            raise ValueError("five")
        return i

    got = []
    before = threading.active_count()
    with pytest.raises(ValueError, match="five"):
        got.extend(_collect(ordered(fail_at_five, range(100), threads=3), got))
    assert got == [0, 1, 2, 3, 4]
    assert threading.active_count() == before


def _collect(results, got: list[int]) -> list[int]:
    for result in results:
        got.append(result)
    return []
