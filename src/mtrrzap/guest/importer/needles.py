"""Where a block's few interesting lines are: searches that cost little more than reading it.

One byte is found several times faster than a word (memchr), so each word is looked for by a byte
that is rare in most captures. In a block where it is not rare, the word itself is searched.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from mtrrzap.guest.importer.blocks import Block

_RARE = 1024
"""Hits of a byte in one block up to which it is rare."""
_PATIENCE = 16
"""Blocks after which a byte that was not rare gets another try."""

_STYLE = re.compile(rb"(?P<kvm>kvm:)?kvm_(?:msr|cr|entry|exit|pio|apic_\w+):\s+\w+(?P<raw>=)?")
_REGISTER = (
    rb"kvm_(?:msr:\s+(?:msr_(?:read|write) |write=[01] ecx=(?:0x)?)2[0-9a-f]{2}\b"
    rb"|cr:\s+(?:cr_(?:read|write) |rw=[01] cr=)0 )"
)
_BEFORE = (b" 0 ", b"ecx", b" cr")
"""What stands before the ``=`` of ``cr_write 0 =``, ``ecx=`` and ``cr=``."""


class Style(NamedTuple):
    """How a reader prints events."""

    perf: bool
    raw: bool


def style(block: Block) -> Style | None:
    """Return the style of the first KVM event in a block, None if there is none."""
    found = _STYLE.search(block.data, block.start, block.end)
    return Style(found["kvm"] is not None, found["raw"] is not None) if found else None


class Word:
    """A word and a byte in it; ``positions`` finds the word by the byte as long as it is rare."""

    def __init__(self, word: bytes, rare: bytes) -> None:
        """``rare`` is one byte of ``word``."""
        self._word = word
        self._rare = rare
        self._back = word.index(rare)
        self._wait = 0

    @property
    def rare(self) -> bool:
        """Whether its byte is worth a try."""
        return not self._wait

    def passed(self) -> None:
        """Note that a block was searched by other means."""
        self._wait -= 1

    def positions(self, block: Block) -> Iterator[int]:
        """Yield where the word begins in the block's lines."""
        data, position, end = block.data, block.start, block.end
        if self._wait:
            self._wait -= 1
        else:
            for _ in range(_RARE):
                position = data.find(self._rare, position, end)
                if position < 0:
                    return
                if data.startswith(self._word, position - self._back):
                    yield position - self._back
                position += 1
            self._wait = _PATIENCE
        position = data.find(self._word, position, end)
        while position >= 0:
            yield position
            position = data.find(self._word, position + 1, end)


class Losses:
    """``[LOST 7 EVENTS]`` and ``[7 EVENTS DROPPED]``: by one byte that they share, if it is rare.

    It is not where exits are called ``EXIT_IOIO``; then each is looked for by a byte of its own.
    """

    def __init__(self) -> None:
        """Try the byte that they share first."""
        self._both = Word(b"EVENTS", b"T")
        self._each = Word(b"[LOST ", b"L"), Word(b"DROPPED]", b"D")

    def positions(self, block: Block) -> Iterator[int]:
        """Yield a position in each."""
        if self._both.rare:
            yield from self._both.positions(block)
            return
        self._both.passed()
        for word in self._each:
            yield from word.positions(block)


class Registers:
    """Accesses to an MSR 2xx or to CR0, by the ``=`` between a register and its value."""

    # The literal in front, kvm_, lets the expression skip through a block as bytes.find does.
    _SLOW = re.compile(_REGISTER)

    def __init__(self) -> None:
        """Try the byte first."""
        self._wait = 0

    def positions(self, block: Block) -> Iterator[int]:
        """Yield a position on each such line."""
        data, position, end = block.data, block.start, block.end
        if self._wait:
            self._wait -= 1
        else:
            found: list[int] = []
            for _ in range(_RARE):
                position = data.find(b"=", position, end)
                if position < 0:
                    yield from found
                    return
                if (
                    data[position - 5 : position - 3] == b" 2"
                    or data[position - 3 : position] in _BEFORE
                ):
                    found.append(position)
                position += 1
            self._wait = _PATIENCE
        for match in self._SLOW.finditer(data, block.start, end):
            yield match.start()


class Needles:
    """All searches that a style needs."""

    def __init__(self, style: Style) -> None:
        """Losses are printed as ``[LOST 7 EVENTS]``, ``[7 EVENTS DROPPED]``, ``RECORD_LOST``."""
        self._searches: list[Registers | Word | Losses] = [Registers()]
        if style.perf:
            self._searches.append(Word(b"RECORD_LOST", b"L"))
        else:
            self._searches.append(Losses())
        if style.raw:
            self._searches.append(Word(b"kvm_apic_accept_irq:", b"q"))
        else:
            self._searches.append(Word(b"(INIT|", b"|"))

    def positions(self, block: Block) -> list[int]:
        """Return the positions worth a look, ascending; a line may have several."""
        return sorted(position for search in self._searches for position in search.positions(block))
