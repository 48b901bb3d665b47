"""No cell is handed out twice, none is forgotten, neighbours stay together."""

from hypothesis import given
from hypothesis import strategies as st

from mtrrzap.sweep.driver import Pending


@given(
    cells=st.integers(0, 200),
    together=st.integers(1, 7),
    done=st.sets(st.integers(0, 199)),
    asks=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.booleans()), max_size=80),
)
def test_each_cell_once(
    cells: int, together: int, done: set[int], asks: list[tuple[int, int, bool]]
) -> None:
    pending = Pending(cells, together)
    done = {number for number in done if number < cells}
    assert pending.drop(done) == len(done)
    seen = set(done)
    for lane, count, returned in asks:
        numbers = pending.next(lane, count)
        assert len(numbers) <= count
        assert bool(numbers) == (len(seen) < cells)
        assert not seen & set(numbers)
        seen |= set(numbers)
        if returned:  # the worker's turn was over before the last
            pending.put_back(lane, numbers[-1:])
            seen -= set(numbers[-1:])
        assert pending.left == cells - len(seen)
    while numbers := pending.next(0, 10):
        assert not seen & set(numbers)
        seen |= set(numbers)
    assert seen == set(range(cells))


def test_lanes_begin_apart_and_at_a_guest() -> None:
    pending = Pending(40, together=4)
    assert pending.next(0, 3) == (0, 1, 2)
    assert pending.next(1, 3) == (20, 21, 22)
    assert pending.next(2, 2) == (8, 9)  # half of what lane 0 has left, from a guest on
    pending.put_back(0, (1, 2))
    assert pending.next(0, 4) == (1, 2, 3, 4)
    assert 10 in pending
    assert 9 not in pending
