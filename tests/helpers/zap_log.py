"""What happened, by a logical clock, and which calls came back with frames not zapped.

It knows of calls and zaps only: no protocol, no engine. A call's ticks are taken before it is made
and after it came back, a zap's by the zap function itself, first thing and last thing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import NamedTuple


class Zap(NamedTuple):
    begin: int
    end: int
    start: int
    stop: int
    raised: bool


class Call(NamedTuple):
    begin: int
    end: int
    start: int
    stop: int
    raised: bool


class Clock:
    """Counts: no two ticks are alike."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._now = 0

    def tick(self) -> int:
        with self._lock:
            self._now += 1
            return self._now


class Verdict(NamedTuple):
    lost: list[Call]
    """Came back as if all were well, with frames that no zap in its time has zapped."""
    unfounded: list[Call]
    """Raised, although no zap in its time has failed on a frame of it."""


def judge(calls: Iterable[Call], zaps: Iterable[Zap]) -> Verdict:
    """Judge every call by the zaps that began after it began and ended before it ended."""
    ordered = sorted(zaps)
    begins = [zap.begin for zap in ordered]
    verdict = Verdict([], [])
    for call in calls:
        within = [
            zap
            for zap in ordered[bisect_right(begins, call.begin) : bisect_right(begins, call.end)]
            if zap.end < call.end and zap.start < call.stop and call.start < zap.stop
        ]
        if call.raised:
            if not any(zap.raised for zap in within):
                verdict.unfounded.append(call)
        elif not covered(call, [zap for zap in within if not zap.raised]):
            verdict.lost.append(call)
    return verdict


def covered(call: Call, zaps: Sequence[Zap]) -> bool:
    """Say whether each frame of the call is in one of the zaps."""
    at = call.start
    for start, stop in sorted((zap.start, zap.stop) for zap in zaps):
        if start > at:
            return False
        at = max(at, stop)
    return at >= call.stop
