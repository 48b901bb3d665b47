"""The coordinator for asyncio: the same protocols, cancelled tasks, loops that end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from helpers.crew import LIMIT, Crew
from helpers.zap_log import Call, Clock, Zap, judge
from mtrrzap.errors import UserError
from mtrrzap.protocol import Range
from mtrrzap.threads import AsyncZapCoordinator, ClosedError, ZapError


def loop(main: Coroutine[Any, Any, None]) -> None:
    """Run an event loop in a thread, so that one which hangs is found from outside."""
    crew = Crew()
    crew.start(asyncio.run, main)
    crew.join()


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


class Gate:
    """A zap that stays in its first zap until let go, and raises where told to."""

    def __init__(self, fails: dict[int, BaseException] | None = None) -> None:
        self.zaps: list[Range] = []
        self.leave = asyncio.Event()
        self.fails = fails or {}

    async def zap(self, start: int, end: int) -> None:
        self.zaps.append((start, end))
        number = len(self.zaps)
        if number == 1:
            await asyncio.wait_for(self.leave.wait(), LIMIT)
        if number in self.fails:
            raise self.fails[number]


@pytest.mark.parametrize(
    ("name", "zaps"),
    [
        ("direct", 33),
        ("v3", 2),
        ("v4", 2),
        ("v4_patch10", 2),
        ("sketch", 2),
        ("review", 2),
        ("ticket", 2),
    ],
)
def test_those_who_ask_during_a_zap_share_the_next(name: str, zaps: int) -> None:
    async def main() -> None:
        gate = Gate()
        coordinator = AsyncZapCoordinator(gate.zap, name)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(33):
                tasks.create_task(coordinator.zap(0x1000, 0x2000))
                await settle()
            gate.leave.set()
        assert gate.zaps == [(0x1000, 0x2000)] * zaps

    loop(main())


@pytest.mark.parametrize("name", ["direct", "sketch", "review", "ticket"])
def test_random_ranges_and_failures_lose_nothing(name: str) -> None:
    clock, zaps, calls = Clock(), [], []
    dice = random.Random(name)

    async def zap(start: int, end: int) -> None:
        begin, raised = clock.tick(), dice.random() < 0.2
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(0)
        zaps.append(Zap(begin, clock.tick(), start, end, raised))
        if raised:
            raise OSError("injected")

    async def caller(coordinator: AsyncZapCoordinator) -> None:
        for _ in range(50):
            start = dice.randrange(1 << 12)
            end = start + dice.randint(1, 64)
            begin, raised = clock.tick(), False
            try:
                await coordinator.zap(start, end)
            except ZapError:
                raised = True
            calls.append(Call(begin, clock.tick(), start, end, raised))

    async def main() -> None:
        coordinator = AsyncZapCoordinator(zap, name)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(32):
                tasks.create_task(caller(coordinator))

    loop(main())
    assert len(calls) == 1600
    assert judge(calls, zaps) == ([], [])
    assert sum(call.raised for call in calls) > 0


def test_a_zap_that_raises_reaches_all_that_it_covered() -> None:
    async def main() -> None:
        error = OSError("injected")
        gate = Gate({2: error})
        coordinator = AsyncZapCoordinator(gate.zap)
        tasks = [asyncio.create_task(coordinator.zap(0x1000, 0x2000)) for _ in range(9)]
        await settle()
        gate.leave.set()
        first, *others = await asyncio.gather(*tasks, return_exceptions=True)
        assert first is None
        for told in others:
            assert isinstance(told, ZapError)
            assert told.exceptions == (error,)
        await coordinator.zap(0x1000, 0x2000)
        assert len(gate.zaps) == 3

    loop(main())


@pytest.mark.parametrize("who", [0, 1])
def test_a_cancelled_caller_leaves_its_request_behind(who: int) -> None:
    """Whether it zaps or waits: the others, who count on it, are served."""

    async def main() -> None:
        gate = Gate()
        coordinator = AsyncZapCoordinator(gate.zap)
        tasks = [
            asyncio.create_task(coordinator.zap(0x1000 * n, 0x1000 * n + 1)) for n in (1, 2, 3)
        ]
        await settle()
        tasks[who].cancel()
        await settle()
        assert tasks[who].cancelled()
        gate.leave.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await settle()
        assert sorted(gate.zaps) == [(0x1000 * n, 0x1000 * n + 1) for n in (1, 2, 3)]

    loop(main())


def test_a_loop_that_ends_ends_its_calls() -> None:
    """asyncio.run() cancels what is left. Nothing hangs, and the coordinator is closed."""
    left: list[AsyncZapCoordinator] = []
    tasks: list[asyncio.Task[None]] = []

    async def main() -> None:
        gate = Gate()
        left.append(coordinator := AsyncZapCoordinator(gate.zap))
        tasks.extend(asyncio.create_task(coordinator.zap(1, 2)) for _ in range(5))
        await settle()

    async def late() -> None:
        with pytest.raises(ClosedError, match="CancelledError"):
            await left[0].zap(1, 2)

    loop(main())
    loop(late())


def test_it_serves_one_loop_after_the_other() -> None:
    zaps: list[Range] = []

    async def zap(start: int, end: int) -> None:
        zaps.append((start, end))

    coordinator = AsyncZapCoordinator(zap, "direct")
    loop(coordinator.zap(1, 2))
    loop(coordinator.zap(3, 4))
    assert zaps == [(1, 2), (3, 4)]


def test_a_second_loop_at_the_same_time_is_refused() -> None:
    refused: list[BaseException] = []

    async def zap(start: int, end: int) -> None:  # noqa: ARG001
        crew = Crew()
        crew.start(asyncio.run, coordinator.zap(3, 4))
        crew.join(errors=1)
        refused.extend(crew.errors)

    coordinator = AsyncZapCoordinator(zap)
    loop(coordinator.zap(1, 2))
    (error,) = refused
    assert str(error) == "another event loop uses this coordinator; make one for each"


def test_a_zap_that_asks_for_a_zap_is_refused() -> None:
    async def zap(start: int, end: int) -> None:
        await coordinator.zap(start, end)

    coordinator = AsyncZapCoordinator(zap)

    async def main() -> None:
        with pytest.raises(ZapError) as told:
            await coordinator.zap(1, 2)
        assert str(told.value.exceptions[0]).startswith("an AsyncZapCoordinator.zap() is called")

    loop(main())


def test_a_function_that_is_no_coroutine_function_is_refused_when_it_shows() -> None:
    async def main() -> None:
        with pytest.raises(ZapError) as told:
            await AsyncZapCoordinator(lambda *_: None).zap(1, 2)  # type: ignore[arg-type,return-value]
        (error,) = told.value.exceptions
        assert str(error) == "zap returned nothing to await; use a ZapCoordinator"

    loop(main())


def test_what_is_no_range_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(UserError, match="not a range of frames"):
            await AsyncZapCoordinator(Gate().zap).zap(2, 1)

    loop(main())


def test_closing_ends_all_who_wait() -> None:
    async def main() -> None:
        gate = Gate()
        coordinator = AsyncZapCoordinator(gate.zap)
        tasks = [asyncio.create_task(coordinator.zap(1, 2)) for _ in range(5)]
        await settle()
        coordinator.close()
        await settle()
        assert [task.done() for task in tasks] == [False, True, True, True, True]
        gate.leave.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(error) for error in ended] == [ClosedError] * 5

    loop(main())
