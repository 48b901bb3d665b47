"""The coordinator as its users meet it: also those who hold it wrong."""

from __future__ import annotations

import copy
import functools
import pickle
import threading
from typing import Any

import pytest

import mtrrzap.threads as api
from helpers.broken_protocols import mutex
from helpers.crew import Crew, reached
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Range
from mtrrzap.protocol.registry import protocol
from mtrrzap.threads import AsyncZapCoordinator, ClosedError, ZapCoordinator, ZapError
from mtrrzap.threads import coordinator as face


def away(work: Any, *args: Any, errors: int = 0) -> list[BaseException]:
    """Run in a thread that is not the main thread."""
    crew = Crew()
    crew.start(work, *args)
    crew.join(errors=errors)
    return crew.errors


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_serves(name: str) -> None:
    zaps: list[Range] = []
    with ZapCoordinator(lambda *zap: zaps.append(zap), name) as coordinator:
        coordinator.zap(0x1000, 0x2000)
        away(coordinator.zap, 0x1000, 0x2000)
        coordinator.zap(*ALL_GFNS)
    assert zaps == [(0x1000, 0x2000), (0x1000, 0x2000), ALL_GFNS]


def test_a_protocol_of_ones_own_serves() -> None:
    zaps: list[Range] = []
    coordinator = ZapCoordinator(lambda *zap: zaps.append(zap), protocol(mutex, "test"))
    coordinator.zap(1, 2)
    assert zaps == [(1, 2)]


class Index:
    """An integer of another library's, as numpy has them."""

    def __index__(self) -> int:
        return 7


def test_integers_of_any_kind_will_do() -> None:
    zaps: list[Range] = []
    ZapCoordinator(lambda *zap: zaps.append(zap), "direct").zap(False, Index())  # type: ignore[arg-type]
    assert zaps == [(0, 7)]
    assert all(type(each) is int for each in zaps[0])


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (5, 5, "zap(0x5, 0x5): not a range of frames; use 0 <= start < end"),
        (6, 5, "zap(0x6, 0x5): not a range of frames; use"),
        (-1, 5, "zap(-0x1, 0x5): not a range of frames; use"),
        (0, (1 << 52) + 1, "zap(0x0, 0x10000000000001): not a range of frames; use"),
        (0.0, 5, "zap(0.0, 5): not a range of frames; give two integers"),
        ("0", "5", "zap('0', '5'): not a range of frames; give two integers"),
        (None, 5, "zap(None, 5): not a range of frames; give two integers"),
    ],
)
def test_what_is_no_range_is_refused(start: Any, end: Any, says: str) -> None:
    coordinator = ZapCoordinator(pytest.fail)
    with pytest.raises(UserError) as refused:
        coordinator.zap(start, end)
    assert str(refused.value).startswith(says)


async def zap_async(start: int, end: int) -> None:
    pytest.fail(f"{start} {end}")


@pytest.mark.parametrize(
    ("zap", "name", "says"),
    [
        (None, "ticket", "zap is None; give a function of (start, end)"),
        (print, "v5", "unknown protocol 'v5'; use direct, v3, v4"),
        (print, [], "unknown protocol []; use"),
        (zap_async, "ticket", "zap is a coroutine function; use an AsyncZapCoordinator"),
    ],
)
def test_what_cannot_be_coordinated_is_refused(zap: Any, name: Any, says: str) -> None:
    with pytest.raises(UserError) as refused:
        ZapCoordinator(zap, name)
    assert str(refused.value).startswith(says)


def test_a_coroutine_that_hides_is_refused_when_it_shows() -> None:
    hidden = functools.partial(lambda zap, *args: zap(*args), zap_async)
    with pytest.raises(ZapError) as told:
        ZapCoordinator(hidden).zap(0, 1)
    (error,) = told.value.exceptions
    assert str(error) == "zap returned something to await; use AsyncZapCoordinator"


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", [ZapCoordinator, AsyncZapCoordinator])
def test_it_cannot_be_copied(kind: Any, make: Any) -> None:
    with pytest.raises(TypeError, match="Coordinator is neither copied nor pickled: it lives in"):
        make(kind(print))


def test_a_zap_that_asks_for_a_zap_is_refused_on_any_thread() -> None:
    """It would wait for itself. The caller gets the refusal, and the coordinator goes on."""
    again = [True]

    def zap(start: int, end: int) -> None:
        if again[0]:
            coordinator.zap(start, end)

    coordinator = ZapCoordinator(zap)
    for errors in (away(coordinator.zap, 1, 2, errors=1), [raised_by(coordinator)]):
        (told,) = errors
        assert isinstance(told, ZapError)
        assert str(told.exceptions[0]).startswith("a ZapCoordinator.zap() is called from within")
    again[0] = False
    coordinator.zap(1, 2)
    away(coordinator.zap, 1, 2)


def raised_by(coordinator: ZapCoordinator) -> BaseException:
    with pytest.raises(ZapError) as told:
        coordinator.zap(1, 2)
    return told.value


def test_one_coordinator_may_stand_before_another() -> None:
    zaps: list[Range] = []
    inner = ZapCoordinator(lambda *zap: zaps.append(zap))
    outer = ZapCoordinator(inner.zap)
    outer.zap(1, 2)
    away(outer.zap, 1, 2)
    assert zaps == [(0, 0x100)] * 2  # what is below 1 MiB is zapped as one


def test_the_main_thread_zaps_itself() -> None:
    """A zap may depend on its thread, as databases' connections do."""
    threads: list[threading.Thread] = []
    coordinator = ZapCoordinator(lambda *_: threads.append(threading.current_thread()))
    coordinator.zap(1, 2)
    crew = Crew()
    other = crew.start(coordinator.zap, 1, 2)
    crew.join()
    assert threads == [threading.main_thread(), other]


def test_an_error_reaches_the_main_thread() -> None:
    error = OSError("injected")

    def zap(start: int, end: int) -> None:  # noqa: ARG001
        raise error

    with pytest.raises(ZapError, match=r"not zapped: \[1,2\)") as told:
        ZapCoordinator(zap).zap(1, 2)
    assert told.value.exceptions == (error,)


def test_the_main_thread_works_where_no_thread_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(face._thread, "start_new_thread", start)
    zaps: list[Range] = []
    ZapCoordinator(lambda *zap: zaps.append(zap)).zap(1, 2)
    assert zaps == [(0, 0x100)]


def test_closed_is_closed() -> None:
    coordinator = ZapCoordinator(pytest.fail)
    coordinator.close()
    coordinator.close()
    for error in away(coordinator.zap, 1, 2, errors=1):
        assert isinstance(error, ClosedError)
    with pytest.raises(ClosedError, match="closed"):
        coordinator.zap(1, 2)


def test_thousands_of_threads() -> None:
    """They all come while one zap is held, and share the next ones: as many as there are ranges."""
    entered, leave = threading.Event(), threading.Event()
    zaps: list[Range] = []

    def zap(start: int, end: int) -> None:
        zaps.append((start, end))
        if len(zaps) == 1:
            entered.set()
            reached(leave)

    coordinator = ZapCoordinator(zap)
    crew = Crew()
    crew.start(coordinator.zap, 0, 1)
    reached(entered)
    for number in range(2000):
        crew.start(coordinator.zap, 0x1000 * (1 + number % 3), 0x1000 * (1 + number % 3) + 1)
    leave.set()
    crew.join()
    assert 4 <= len(zaps) <= 2001
    assert set(zaps) == {(0, 0x100), *((0x1000 * n, 0x1000 * n + 1) for n in (1, 2, 3))}


def test_the_public_list_is_whole() -> None:
    assert sorted(api.__all__) == api.__all__
    assert all(getattr(api, name).__doc__ for name in api.__all__)
