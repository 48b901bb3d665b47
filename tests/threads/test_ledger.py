"""The ledger: whose frames failed zaps leave unzapped, against an oracle frame by frame."""

from __future__ import annotations

import pickle
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mtrrzap.protocol import Range
from mtrrzap.threads import ZapError, ZapInterruptedError
from mtrrzap.threads.ledger import Ledger, without

FRAMES = 16
ranges = st.tuples(st.integers(0, FRAMES - 1), st.integers(1, FRAMES)).map(
    lambda pair: (pair[0], min(pair[0] + pair[1], FRAMES))
)


def frames(some: Any) -> set[int]:
    return {frame for start, end in some for frame in range(start, end)}


@given(st.lists(ranges, max_size=4), st.lists(ranges, max_size=6))
def test_without_is_the_difference_of_sets(some: list[Range], zapped: list[Range]) -> None:
    left = without(some, zapped)
    assert frames(left) == frames(some) - frames(zapped)
    assert all(start < end for start, end in left)


class Oracle:
    """Every frame of every call by itself."""

    def __init__(self, asked: Range) -> None:
        self.zapped: set[int] = set()
        self.failed: dict[int, list[Exception]] = {frame: [] for frame in range(*asked)}

    def told(self) -> tuple[set[int], set[Exception]]:
        missing = self.failed.keys() - self.zapped
        return missing, {error for frame in missing for error in self.failed[frame]}


@given(st.data())
def test_callers_are_told_of_exactly_what_is_missing(data: st.DataObject) -> None:
    """Calls and zaps overlap at random; some zaps raise."""
    ledger, numbers = Ledger(), count()
    calls: dict[Any, Oracle] = {}
    zaps: dict[int, tuple[int, Range, list[Any]]] = {}
    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(["call", "return", "zap", "zapped", "failed"])):
            case "call":
                asked = data.draw(ranges)
                calls[ledger.enter((asked,))] = Oracle(asked)
            case "zap":
                zaps[next(numbers)] = (ledger.zap_begins(), data.draw(ranges), list(calls))
            case "return" if calls:
                leave(ledger, calls, data.draw(st.sampled_from(list(calls))))
            case "zapped" | "failed" as how if zaps:
                began, zap, since = zaps.pop(data.draw(st.sampled_from(list(zaps))))
                error = OSError() if how == "failed" else None
                ledger.zap_ended(began, *zap, error)
                for call in since:
                    if call in calls:
                        note(calls[call], zap, error)
    for call in list(calls):
        leave(ledger, calls, call)


def note(oracle: Oracle, zap: Range, error: Exception | None) -> None:
    for frame in range(*zap):
        if error is None:
            oracle.zapped.add(frame)
        elif frame in oracle.failed:
            oracle.failed[frame].append(error)


def leave(ledger: Ledger, calls: dict[Any, Oracle], call: Any) -> None:
    missing, errors = calls.pop(call).told()
    told = ledger.leave(call)
    if not errors:
        assert told is None
        return
    assert told is not None
    assert frames(told.ranges) == missing
    assert set(told.exceptions) == errors
    assert len(told.exceptions) == len(errors)


def test_of_many_failures_some_are_kept_and_no_frame_is_forgotten() -> None:
    ledger = Ledger()
    call = ledger.enter(((0, 1000),))
    for frame in range(1000):
        ledger.zap_ended(ledger.zap_begins(), frame, frame + 1, OSError(frame))
    told = ledger.leave(call)
    assert told is not None
    assert told.ranges == ((0, 1000),)
    assert [error.args[0] for error in told.exceptions] == [*range(63), 999]


def test_a_zap_too_long_ago_is_forgotten_to_the_safe_side() -> None:
    def told(others: int) -> ZapError | None:
        ledger = Ledger()
        call = ledger.enter(((0, 1),))
        ledger.zap_ended(ledger.zap_begins(), 0, 1, None)
        for _ in range(others):
            ledger.zap_ended(ledger.zap_begins(), 5, 6, None)
        ledger.zap_ended(ledger.zap_begins(), 0, 1, OSError())
        return ledger.leave(call)

    assert told(4095) is None
    assert told(4096) is not None


def test_what_is_no_exception_is_wrapped_for_others() -> None:
    ledger = Ledger()
    call = ledger.enter(((0, 1),))
    ended = KeyboardInterrupt()
    ledger.zap_ended(ledger.zap_begins(), 0, 1, ended)
    told = ledger.leave(call)
    assert told is not None
    (error,) = told.exceptions
    assert isinstance(error, ZapInterruptedError)
    assert error.__cause__ is ended


def test_the_error_is_a_group_that_keeps_its_frames() -> None:
    error = ZapError.of(((0x10, 0x20),), [OSError("one"), ValueError("two")])
    assert str(error) == "not zapped: [0x10,0x20) (2 sub-exceptions)"
    again = pickle.loads(pickle.dumps(error))
    assert (again.ranges, str(again)) == (error.ranges, str(error))
    taken, left = error.split(OSError)
    assert isinstance(taken, ZapError)
    assert isinstance(left, ZapError)
    assert (taken.ranges, left.ranges) == (error.ranges, error.ranges)
    assert [str(each) for each in (*taken.exceptions, *left.exceptions)] == ["one", "two"]


def test_a_long_list_of_frames_is_cut() -> None:
    error = ZapError.of(tuple((2 * i, 2 * i + 1) for i in range(5)), [OSError()])
    assert error.message == "not zapped: [0,1), [2,3), [4,5) and 2 more"
