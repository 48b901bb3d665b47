"""The sparse map against a dictionary."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from mtrrzap.kvm.tdp.table import Runs

steps = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 12), st.sampled_from([None, "a", "b"])),
    max_size=30,
)


@settings(max_examples=300)
@given(steps, st.integers(0, 52), st.integers(0, 52))
def test_against_a_dictionary(
    changes: list[tuple[int, int, str | None]], start: int, end: int
) -> None:
    runs: Runs[str] = Runs()
    plain: dict[int, str] = {}
    for first, length, value in changes:
        for frame in range(first, first + length):
            plain.pop(frame, None)
            if value is not None:
                plain[frame] = value
        if value is None:
            runs.clear(first, first + length)
        else:
            runs.set(first, first + length, value)
    assert {frame: v for a, b, v in runs for frame in range(a, b)} == plain
    found = list(runs)
    assert len(runs) == len(found)
    assert all(a < b for a, b, _ in found)
    pairs = itertools.pairwise(found)
    assert all(x[1] < y[0] or (x[1] == y[0] and x[2] != y[2]) for x, y in pairs)
    inside = {f: v for a, b, v in runs.overlapping(start, end) for f in range(a, b)}
    assert inside == {f: v for f, v in plain.items() if start <= f < end}
    assert runs.count(start, end) == len(inside)
    assert [runs.covers(f) for f in range(60)] == [f in plain for f in range(60)]
