"""Threads under test, with a limit that the test's own thread enforces."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

LIMIT = 60.0
"""Seconds after which something hangs. Nothing that passes comes near."""


class Crew:
    """Daemon threads, so that one that hangs does not keep the tests from ending."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self, work: Callable[..., object], *args: Any) -> threading.Thread:
        def run() -> None:
            try:
                work(*args)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def join(self, *, errors: int = 0) -> None:
        """Wait for all of them; exactly so many of them raised."""
        deadline = time.monotonic() + LIMIT
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            pytest.fail(f"a thread hangs; others raised {self.errors}")
        if len(self.errors) != errors:
            raise AssertionError(f"{errors} errors expected: {self.errors}") from next(
                iter(self.errors), None
            )


def reached(event: threading.Event) -> None:
    """Wait for what must happen."""
    assert event.wait(LIMIT), "never happened"


def parked(semaphore: threading.Semaphore, times: int = 1) -> None:
    """Wait until so many threads have come to wait."""
    for _ in range(times):
        assert semaphore.acquire(timeout=LIMIT), "nobody waits"
