"""Phases and meetings: who may go on when. Each thread is watched by one that can give up."""

import threading
from collections.abc import Callable

import pytest

from mtrrzap.live.turns import Meetings, RunStoppedError, Turns

SECONDS = 30


def all_end(jobs: list[Callable[[], None]]) -> None:
    """Run each on a thread of its own; fail, instead of hanging, if one does not end."""
    threads = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)


def test_phases_follow_each_other() -> None:
    """vCPU v takes part in phase p if bit v of p is set; phase 0 and 8 have nobody."""
    waits_for = [frozenset(v for v in range(3) if p >> v & 1) for p in (0, 1, 2, 4, 7, 3, 0, 5)]
    turns, log = Turns(waits_for), []

    def work(vcpu: int) -> None:
        for phase, who in enumerate(waits_for):
            if vcpu in who:
                turns.wait(phase)
                log.append(phase)
                turns.leave(phase, vcpu)

    all_end([lambda v=v: work(v) for v in range(3)])  # type: ignore[misc]
    assert log == sorted(log)
    assert len(log) == sum(map(len, waits_for))


def test_a_phase_waits_for_all() -> None:
    turns = Turns([frozenset({0, 1}), frozenset({0})])
    turns.wait(0)
    turns.leave(0, 0)
    with pytest.raises(TimeoutError):
        turns.wait(1, timeout=0)
    turns.leave(0, 1)
    turns.wait(1, timeout=0)


def test_all_meet_before_any_goes_on() -> None:
    meetings = Meetings([("m", 1)] * 4 + ["alone"])
    come, log = threading.Semaphore(0), []

    def work() -> None:
        log.append("comes")
        come.release()
        meetings.join(("m", 1))
        log.append("goes")

    all_end([work] * 4)
    assert log[:4] == ["comes"] * 4
    assert log[4:] == ["goes"] * 4
    meetings.join("alone")
    meetings.join("unknown")


def test_stop_ends_all_waits() -> None:
    turns, meetings = Turns([frozenset({9}), frozenset({0})]), Meetings(["m"] * 3)
    ended = []

    def wait() -> None:
        with pytest.raises(RunStoppedError):
            turns.wait(1)
        ended.append("turns")

    def join() -> None:
        with pytest.raises(RunStoppedError):
            meetings.join("m")
        ended.append("meetings")

    def stop() -> None:
        turns.stop()
        meetings.stop()

    all_end([wait, join, join, stop])
    assert sorted(ended) == ["meetings", "meetings", "turns"]
    with pytest.raises(RunStoppedError):
        turns.wait(1)
