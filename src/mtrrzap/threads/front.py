"""What the two coordinators share: what they accept, and a number for each call."""

from __future__ import annotations

import heapq
import operator
import os
from threading import Lock
from typing import Any, NoReturn

from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, Protocol, Range
from mtrrzap.protocol.operation import is_range


class Numbers:
    """Small numbers for calls in progress: the lowest that is free."""

    def __init__(self) -> None:
        """Start with none given out."""
        self._lock = Lock()
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        """Give one out."""
        with self._lock:
            if self._free:
                return heapq.heappop(self._free)
            self._next += 1
            return self._next - 1

    def give(self, number: int) -> None:
        """Take one back."""
        with self._lock:
            heapq.heappush(self._free, number)


class Front:
    """The face of a coordinator, without the engine behind it."""

    def __init__(self, zap: object, protocol: str | Protocol) -> None:
        """Take a protocol, or the name of one.

        Raises:
            UserError: if there is no such protocol, or ``zap`` cannot be called.
        """
        if not callable(zap):
            raise UserError(f"zap is {zap!r}", mend="give a function of (start, end)")
        if not isinstance(protocol, Protocol):
            if not isinstance(protocol, str) or protocol not in PROTOCOLS:
                raise UserError(
                    f"no protocol is called {protocol!r}",
                    mend=f"there are {', '.join(PROTOCOLS)}, or make one by protocol()",
                )
            protocol = PROTOCOLS[protocol]
        self.protocol = protocol
        self._numbers = Numbers()
        self._process = os.getpid()

    def __reduce__(self) -> NoReturn:
        """Refuse: what is coordinated are threads of one process.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{_name(self)} is neither copied nor pickled: it lives in one process")

    def _asked(self, start: Any, end: Any) -> tuple[Range, ...]:
        """Return the request for ``[start, end)``, after all that can be wrong with it."""
        if os.getpid() != self._process:
            raise UserError(
                f"{_name(self)} was made in process {self._process}, and this is a fork of it",
                mend="make one in each process",
            )
        try:
            start, end = operator.index(start), operator.index(end)
        except TypeError:
            raise UserError(
                f"zap({start!r}, {end!r}): no range of frames", mend="give two integers"
            ) from None
        if not is_range(start, end):
            raise UserError(
                f"zap({start:#x}, {end:#x}): no range of frames",
                mend="a range is start and end, 0 <= start < end <= 2^52",
            )
        return ((start, end),)

    def _again(self) -> NoReturn:
        raise UserError(
            f"{_name(self)}.zap() is called from within itself: it would wait for itself",
            mend="zap later, or from another thread or task",
        )


def _name(front: Front) -> str:
    name = type(front).__name__
    return f"{'an' if name.startswith('A') else 'a'} {name}"
