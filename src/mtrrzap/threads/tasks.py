"""The coordinator for asyncio: tasks of one event loop perform the protocol's operations."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol import Cpu, Mmu, Operation, Protocol, Range
from mtrrzap.threads.front import Front
from mtrrzap.threads.ledger import Ledger
from mtrrzap.threads.state import VmState, Waiter

AsyncZap = Callable[[int, int], Awaitable[object]]
"""Zaps every frame of ``[start, end)``; what it returns is ignored."""


class AsyncZapCoordinator(Front):
    """Lets tasks that ask for zaps at the same time share them.

    Tasks switch only where they wait or zap, so a fault that needs another vCPU between two other
    steps does not show here.
    """

    def __init__(self, zap: AsyncZap, protocol: str | Protocol = "ticket") -> None:
        """As for :class:`ZapCoordinator`; ``zap`` returns something to await.

        Raises:
            UserError: if there is no such protocol, or ``zap`` cannot be called.
        """
        super().__init__(zap, protocol)
        self._zap = zap
        self._state = VmState(self.protocol)
        self._ledger = Ledger()
        self._vm: Any = self.protocol.vm()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def zap(self, start: int, end: int) -> None:
        """Return when every frame of ``[start, end)`` is zapped by a zap that began after the call.

        If the caller is cancelled, its request goes on without it: others may have joined it.

        Raises:
            ZapError: if zaps raised, and leave frames of the range unzapped.
            ClosedError: if the coordinator is closed, before or meanwhile.
            UserError: if the range is invalid, or a zap calls this, or a second event loop does.
        """
        ranges = self._asked(start, end)
        if asyncio.current_task() in self._tasks:
            self._again()
        loop = asyncio.get_running_loop()
        if self._loop is not loop and self._tasks:
            raise UserError("another event loop uses this coordinator", mend="make one for each")
        self._loop = loop
        task = loop.create_task(self._call(ranges), name="mtrrzap zap")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    def close(self) -> None:
        """End all calls: those that wait and later ones raise ClosedError at once.

        Call it in the thread of the event loop.
        """
        self._state.close()

    async def _call(self, ranges: tuple[Range, ...]) -> None:
        call = self._ledger.enter(ranges)
        interrupt: BaseException | None = None
        try:
            interrupt = await self._run(id(call), ranges)
        except BaseException as error:
            # This vCPU stops in the middle of the protocol: others may wait for it forever.
            self._state.close(error)
            raise
        finally:
            failed = self._ledger.leave(call)
        if interrupt is not None:
            raise interrupt
        if failed is not None:
            raise failed

    async def _run(self, number: int, ranges: tuple[Range, ...]) -> BaseException | None:
        steps = self.protocol.call(self._vm, ranges)
        interrupt: BaseException | None = None
        result: Any = None
        while True:
            try:
                operation = steps.send(result)
            except StopIteration:
                return interrupt
            result = self._state.of(operation, steps).perform(operation, number, _Awaited)
            if isinstance(result, _Awaited):
                result = await result.wait()
            if isinstance(operation.target, Cpu):
                await asyncio.sleep(0)  # a moment for other tasks
            elif isinstance(operation.target, Mmu):
                error = await self._zapped(*operation.args)
                if interrupt is None and not isinstance(error, Exception):
                    interrupt = error

    async def _zapped(self, start: int, end: int) -> BaseException | None:
        """Zap; return what the user's function raised.

        Raises ``CancelledError`` if the loop cancels all tasks, as it does when it ends.
        """
        began = self._ledger.zap_begins()
        error: BaseException | None = None
        try:
            zapping = self._zap(start, end)
            if not inspect.isawaitable(zapping):
                raise UserError("zap returned nothing to await", mend="use a ZapCoordinator")
            await zapping
        except BaseException as raised:
            error = raised
        self._ledger.zap_ended(began, start, end, error)
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise error
        return error


class _Awaited(Waiter):
    """A blocked operation of a task."""

    __slots__ = ("_future",)

    def __init__(self, operation: Operation, vcpu: int) -> None:
        super().__init__(operation, vcpu)
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self._future.done():  # its task may have been cancelled
            self._future.set_result(None)

    async def wait(self) -> Any:
        await self._future
        if self.error is not None:
            raise self.error
        return self.result
