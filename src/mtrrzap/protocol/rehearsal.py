"""Run a user's protocol once before an engine uses it that cannot watch every call.

Real threads and the simulator must not pay for noting every operation. So a protocol is rehearsed:
one call alone, then two calls, the first of which is overtaken after each of its operations in
turn. This meets what a call does that has to wait, too. Only an operation that is never yielded is
an error here: others come up where they happen.
"""

from collections.abc import Generator
from contextlib import closing, suppress
from functools import lru_cache
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol.operation import ALL_GFNS, Range
from mtrrzap.protocol.registry import Protocol
from mtrrzap.protocol.source import ships
from mtrrzap.protocol.watched import Watched
from mtrrzap.protocol.yielded import UnyieldedError

REQUESTS = ((ALL_GFNS,), (Range(0, 0x100), Range(0x200, 0x300)))
_STEPS = 200
"""Operations of one call that are run."""


@lru_cache(maxsize=64)
def rehearse(protocol: Protocol) -> None:
    """Run a user's protocol once.

    Raises:
        UserError: naming the file and line of an operation that is made and never yielded.
    """
    if ships(protocol.call.__module__):
        return
    for request in REQUESTS:
        for alloc in (0, -1):  # all allocations succeed, or all fail
            try:
                with closing(_Stage(protocol, request, alloc)) as stage:
                    alone = stage.run(0, _STEPS)
                for steps in range(alone):
                    with closing(_Stage(protocol, request, alloc)) as stage:
                        stage.overtaken(steps)
            except UnyieldedError:
                raise
            except Exception:
                return


class _Stage:
    """Two calls of a protocol on one VM."""

    def __init__(self, protocol: Protocol, request: tuple[Range, ...], alloc: int) -> None:
        self._objects = protocol.vm.objects()
        self._values: dict[int, Any] = {id(each): each.initial for each in self._objects}
        self._alloc = alloc
        vm = protocol.vm()
        calls = [Watched(protocol, vm, request) for _ in range(2)]
        self._runs = [self._run(number, call) for number, call in enumerate(calls)]

    def run(self, number: int, steps: int) -> int:
        """Run one of the calls until it ends, is blocked or has made its steps: return them."""
        made = 0
        for done in self._runs[number]:
            made += done
            if not done or made == steps:
                break
        return made

    def overtaken(self, steps: int) -> None:
        """Let the second call overtake the first after some steps, and both go on in turn."""
        if steps:
            self.run(0, steps)
        for number in (1, 0, 1, 0):
            self.run(number, _STEPS)

    def close(self) -> None:
        """End both calls."""
        for run in self._runs:
            run.close()

    def _run(self, number: int, call: Watched) -> Generator[bool, None, None]:
        """Yield whether each operation was performed, or is blocked."""
        result: Any = None
        try:
            while (operation := call.send(result)) is not None:
                at = id(operation.target)
                while not (found := operation.target.effect(self._values[at], operation, number)):
                    yield False
                self._values[at], result = found[self._alloc]
                yield True
        finally:
            with suppress(UserError):
                call.close()
