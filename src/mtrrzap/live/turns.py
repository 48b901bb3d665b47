"""Which phase has begun, and which vCPUs wait for each other."""

import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


class RunStoppedError(Exception):
    """The run is being ended by another thread."""


class Turns:
    """The phases of one run: one begins when all vCPUs have ended their part of the one before.

    A vCPU whose phase has not begun waits here, not in the guest.
    """

    def __init__(self, waits_for: Sequence[frozenset[int]]) -> None:
        """``waits_for``: for each phase the vCPUs that take part in it."""
        self._left = [set(vcpus) for vcpus in waits_for]
        self._begun = [threading.Event() for _ in waits_for]
        self._lock = threading.Lock()
        self._stopped = False
        self._now = -1
        with self._lock:
            self._advance()

    def _advance(self) -> None:
        while self._now < 0 or (self._now < len(self._left) and not self._left[self._now]):
            self._now += 1
            if self._now < len(self._begun):
                self._begun[self._now].set()

    def wait(self, phase: int, timeout: float | None = None) -> None:
        """Return when a phase has begun. Raises ``RunStoppedError`` or ``TimeoutError``."""
        if not self._begun[phase].wait(timeout):
            raise TimeoutError
        if self._stopped:
            raise RunStoppedError

    def leave(self, phase: int, vcpu: int) -> None:
        """Say that a vCPU has ended its part of a phase."""
        with self._lock:
            self._left[phase].discard(vcpu)
            self._advance()

    def stop(self) -> None:
        """Make everyone who waits raise ``RunStoppedError``."""
        with self._lock:
            self._stopped = True
            for event in self._begun:
                event.set()


class Meetings:
    """Places at which vCPUs wait for each other, each once."""

    def __init__(self, comers: Iterable[Hashable]) -> None:
        """``comers`` names a meeting once for each vCPU that comes to it."""
        self._barriers = {name: threading.Barrier(n) for name, n in Counter(comers).items()}

    def join(self, name: Hashable) -> None:
        """Return when all have come. Raises ``RunStoppedError``."""
        if name in self._barriers:
            try:
                self._barriers[name].wait()
            except threading.BrokenBarrierError:
                raise RunStoppedError from None

    def stop(self) -> None:
        """Make everyone who waits raise ``RunStoppedError``."""
        for barrier in self._barriers.values():
            barrier.abort()
