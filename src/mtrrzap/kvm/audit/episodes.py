"""When something began and ended on which parts of memory."""

from collections.abc import Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
C = TypeVar("C")


class Episode(NamedTuple, Generic[K, C]):
    """``key`` held on the parts of ``mask`` from event ``begin`` on, until event ``end``."""

    key: K
    mask: int
    begin: int
    end: int | None
    context: C
    """What the caller knew at the beginning."""
    after: C | None = None
    """What the caller knew at the end."""


class Episodes(Generic[K, C]):
    """Turn the sets of parts on which a key holds now into episodes."""

    def __init__(self) -> None:
        """Begin with nothing holding."""
        self._now: Mapping[K, int] = {}
        self._open: dict[K, list[Episode[K, C]]] = {}
        self._closed: list[Episode[K, C]] = []

    def update(self, event: int, now: Mapping[K, int], context: C) -> None:
        """Say what holds after an event: key -> parts."""
        before = self._now
        self._now = now
        for key, mask in before.items():
            if over := mask & ~now.get(key, 0):
                self._close(key, over, event, context)
        for key, mask in now.items():
            if new := mask & ~before.get(key, 0):
                self._open.setdefault(key, []).append(Episode(key, new, event, None, context))

    def _close(self, key: K, over: int, event: int, context: C) -> None:
        still: list[Episode[K, C]] = []
        for episode in self._open[key]:
            if ended := episode.mask & over:
                self._closed.append(episode._replace(mask=ended, end=event, after=context))
                if left := episode.mask & ~over:
                    still.append(episode._replace(mask=left))
            else:
                still.append(episode)
        self._open[key] = still

    def all(self) -> Iterator[Episode[K, C]]:
        """Yield every episode; those that still hold have no end."""
        yield from self._closed
        for episodes in self._open.values():
            yield from episodes
