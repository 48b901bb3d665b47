"""Sets of parts as integers, and episodes, against plain sets."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mtrrzap.gfn import Range
from mtrrzap.kvm.audit.parts import Episodes, Parts

edges = st.lists(st.integers(0, 200), min_size=2, unique=True).map(sorted)


@given(edges, st.data())
def test_masks_are_ranges(cuts: list[int], data: st.DataObject) -> None:
    parts = Parts(cuts)
    assert len(parts) == len(cuts) - 1
    start = data.draw(st.sampled_from(cuts))
    end = data.draw(st.sampled_from(cuts))
    mask = parts.mask(start, end)
    assert list(parts.ranges(mask)) == ([Range(start, end)] if start < end else [])
    chosen = data.draw(st.sets(st.integers(0, len(parts) - 1)))
    mask = sum(1 << n for n in chosen)
    frames = {f for n in chosen for f in range(cuts[n], cuts[n + 1])}
    found = list(parts.ranges(mask))
    assert {f for r in found for f in range(*r)} == frames
    assert all(a.end < b.start for a, b in itertools.pairwise(found))
    assert parts.frames(mask) == len(frames)


def test_outside_of_all_parts() -> None:
    assert Parts([10, 20, 30]).mask(0, 1000) == 3
    assert Parts([10, 20]).mask(20, 1000) == 0
    assert Parts([]).mask(0, 1000) == 0
    assert len(Parts([])) == 0


states = st.lists(st.dictionaries(st.sampled_from("ab"), st.integers(0, 15)), max_size=12)


@given(states)
def test_episodes_cover_exactly_what_held(history: list[dict[str, int]]) -> None:
    episodes: Episodes[str, int] = Episodes()
    for event, now in enumerate(history):
        episodes.update(event, now, event)
    found = list(episodes.all())
    for event, now in enumerate(history):
        for key in "ab":
            held = [
                e.mask
                for e in found
                if e.key == key and e.begin <= event and (e.end is None or event < e.end)
            ]
            assert sum(held) == now.get(key, 0)
    assert all(e.context == e.begin and e.after == e.end and e.mask for e in found)
