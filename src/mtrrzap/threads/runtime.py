"""A protocol on real threads: one call to :meth:`Runtime.call` runs its generator to the end."""

import inspect
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol import Cpu, Mmu, Operation, Protocol, Range
from mtrrzap.threads.ledger import Ledger
from mtrrzap.threads.state import Alloc, VmState, Waiter

Zap = Callable[[int, int], object]
"""Zaps every frame of ``[start, end)``; what it returns is ignored."""
Hook = Callable[[int, Operation], None]
"""Called by a vCPU's thread, with no lock held, before each operation. For tests only."""


class Runtime:
    """The shared objects of one VM, on which threads perform a protocol's operations."""

    def __init__(
        self, protocol: Protocol, zap: Zap, *, hook: Hook | None = None, alloc: Alloc | None = None
    ) -> None:
        """``zap`` is called with no lock of the engine held, by the thread that zaps.

        ``alloc(vcpu)`` tells if an allocation succeeds; by default all do.
        """
        self.protocol = protocol
        self._zap = zap
        self._hook = hook
        self._state = VmState(protocol, alloc)
        self._ledger = Ledger()
        self._vm: Any = protocol.vm()

    def call(self, vcpu: int, ranges: tuple[Range, ...], *, zap: Zap | None = None) -> None:
        """Run the protocol for one request on this thread; return when the protocol returns.

        ``vcpu`` is a number that no other call in progress uses. ``zap`` replaces the runtime's own
        for the zaps of this thread. In the main thread a signal handler that raises between two
        steps ends all calls (``coordinator.Errand`` avoids that).

        Raises:
            ZapError: if zaps that raised leave frames of ``ranges`` unzapped.
            ClosedError: if the runtime is closed, before or meanwhile.
            BaseException: if a zap on this thread raised it and it is not an Exception; the
                protocol has run to its end before.
        """
        call = self._ledger.enter(ranges)
        try:
            interrupt = self._run(vcpu, ranges, zap or self._zap)
        except BaseException as error:
            # This vCPU stops in the middle of the protocol: others may wait for it forever.
            self._ledger.leave(call)
            self.abort(error)
            raise
        failed = self._ledger.leave(call)
        if interrupt is not None:
            raise interrupt
        if failed is not None:
            raise failed

    def _run(self, vcpu: int, ranges: tuple[Range, ...], zap: Zap) -> BaseException | None:
        steps = self.protocol.call(self._vm, ranges)
        interrupt: BaseException | None = None
        result: Any = None
        while True:
            try:
                operation = steps.send(result)
            except StopIteration:
                return interrupt
            if self._hook is not None:
                self._hook(vcpu, operation)
            result = self._state.of(operation, steps).perform(operation, vcpu, _Parked)
            if isinstance(result, _Parked):
                result = result.wait()
            if isinstance(operation.target, Cpu):
                time.sleep(0)  # a moment for other threads: spinning would keep them from running
            elif isinstance(operation.target, Mmu):
                error = self._zapped(zap, *operation.args)
                if interrupt is None and not isinstance(error, Exception):
                    interrupt = error

    def _zapped(self, zap: Zap, start: int, end: int) -> BaseException | None:
        """Zap; return what the user's function raised."""
        began = self._ledger.zap_begins()
        error: BaseException | None = None
        try:
            _refuse_coroutine(zap(start, end))
        except BaseException as raised:
            error = raised
        self._ledger.zap_ended(began, start, end, error)
        return error

    def close(self) -> None:
        """End all calls: those that wait raise at once, others at their next operation."""
        self._state.close()

    def abort(self, error: BaseException) -> None:
        """Do the same because of ``error``, which becomes the cause of what they raise."""
        self._state.close(error)


def _refuse_coroutine(returned: object) -> None:
    if inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        raise UserError("zap returned something to await", mend="use AsyncZapCoordinator")


class _Parked(Waiter):
    """A blocked operation of a thread, which sleeps on a lock of its own."""

    __slots__ = ("_gate",)

    def __init__(self, operation: Operation, vcpu: int) -> None:
        super().__init__(operation, vcpu)
        self._gate = Lock()
        self._gate.acquire()

    def wake(self) -> None:
        self._gate.release()

    def wait(self) -> Any:
        self._gate.acquire()
        if self.error is not None:
            raise self.error
        return self.result
