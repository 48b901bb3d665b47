"""What the two coordinators share: what they accept, and what they refuse."""

import operator
import os
from typing import Any, NoReturn

from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS, Protocol, Range
from mtrrzap.protocol.operation import is_range


class Front:
    """What a coordinator offers, without the engine behind it."""

    def __init__(self, zap: object, protocol: str | Protocol) -> None:
        if not callable(zap):
            raise UserError(f"zap is {zap!r}", mend="give a function of (start, end)")
        if not isinstance(protocol, Protocol):
            if not isinstance(protocol, str) or protocol not in PROTOCOLS:
                raise UserError(
                    f"unknown protocol {protocol!r}",
                    mend=f"use {', '.join(PROTOCOLS)}, or make one by protocol()",
                )
            protocol = PROTOCOLS[protocol]
        self.protocol = protocol
        self._process = os.getpid()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{_name(self)} is neither copied nor pickled: it lives in one process")

    def _asked(self, start: Any, end: Any) -> tuple[Range, ...]:
        """Return the request for ``[start, end)``. Raises ``UserError`` if it is invalid."""
        if os.getpid() != self._process:
            raise UserError(
                f"{_name(self)} was made in process {self._process}, and this is a fork of it",
                mend="make one in each process",
            )
        try:
            start, end = operator.index(start), operator.index(end)
        except TypeError:
            raise UserError(
                f"zap({start!r}, {end!r}): not a range of frames", mend="give two integers"
            ) from None
        if not is_range(start, end):
            raise UserError(
                f"zap({start:#x}, {end:#x}): not a range of frames",
                mend="use 0 <= start < end <= 2^52",
            )
        return (Range(start, end),)

    def _again(self) -> NoReturn:
        raise UserError(
            f"{_name(self)}.zap() is called from within itself: it would wait for itself",
            mend="zap later, or from another thread or task",
        )


def _name(front: Front) -> str:
    name = type(front).__name__
    return f"{'an' if name.startswith('A') else 'a'} {name}"
