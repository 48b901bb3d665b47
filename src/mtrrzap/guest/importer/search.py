"""Find the few lines of a capture that matter, in little more time than reading it takes.

``Blocks`` cuts the bytes into blocks of whole lines, each with the end of the block before it.
``Needles`` finds the interesting lines of a block. The functions at the end look for the events
before and after such a line on the same thread.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mtrrzap.guest.importer.event_text import EventLine, parse

SIZE = 1 << 19
"""Bytes of a block, and of the longest run without a line end that is kept. Two blocks fit the
cache of one core."""
LOOKBACK = 1 << 16
"""Bytes of the previous block that are kept: what led to an event stands near it."""
MAX_LINE = 1 << 10
"""Bytes of the longest line that can be an event; real ones have some 200."""


class BadLine(Exception):  # noqa: N818 - never leaves this room
    """An event that cannot be understood, and its offset in the capture."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(problem)
        self.offset = offset


class Block(NamedTuple):
    """Whole lines in ``data[start:end]``; before them is the end of the block before."""

    data: bytes
    start: int
    end: int
    offset: int
    """Where ``start`` is in the whole capture, in bytes."""
    last: bool = False

    def line_at(self, position: int) -> tuple[int, int]:
        """Return start and end of the line around a position; an empty stretch if too long."""
        low = max(0, position - MAX_LINE)
        start = self.data.rfind(b"\n", low, position) + 1
        if start == 0 and low > 0:
            return position, position
        end = self.data.find(b"\n", position, start + MAX_LINE)
        return (start, end) if end >= 0 else (position, position)


class Blocks:
    """Iterate over the blocks of a stream of bytes. Afterwards ``cut`` is known."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """``chunks`` may have any size; empty ones are skipped."""
        self._chunks = chunks
        self.cut = False
        """The last line had no line end: it is not in any block."""

    def __iter__(self) -> Iterator[Block]:
        parts: list[bytes] = []
        start = size = offset = 0
        for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size < start + SIZE:
                continue
            data = b"".join(parts)
            end = data.rfind(b"\n", start) + 1 or start
            if end > start:
                yield Block(data, start, end, offset)
            elif size > start + 2 * SIZE:
                end = len(data)  # drop it: no event has so long a line
            offset += end - start
            low = max(0, end - LOOKBACK)
            parts, start, size = [data[low:]], end - low, len(data) - low
        data = b"".join(parts)
        end = data.rfind(b"\n", start) + 1 or start
        if end > start:
            yield Block(data, start, end, offset, last=True)
        self.cut = bool(data[end:].strip(b"\0 \r\n"))


def line_number(chunks: Iterable[bytes], offset: int) -> int | None:
    """Return the number of the line at an offset, from 1; None if the stream ends before it.

    Counting every line of a capture would cost as much as the search for the few that matter. So
    lines are counted only for an error message, by reading the capture again.
    """
    lines = 1
    for chunk in chunks:
        if offset < len(chunk):
            return lines + chunk.count(b"\n", 0, offset)
        lines += chunk.count(b"\n")
        offset -= len(chunk)
    return None


_PROBE = (
    rb"(?:zap|zapret|mtrr|mtrrret|setmsr|cr0|reset|sregs|reg|unreg): +\((?:kvm_|__kvm_|[0-9a-f]{8})"
)
_FIRST_ARGUMENTS = (b" vcpu", b"start", b") kvm", b") ret")
"""What stands before the first ``=`` of a kprobe's line."""
_RARE = 1024
"""Hits of a byte in one block up to which it is rare."""
_SAMPLE = 1 << 11
"""Bytes of a block that are sampled first."""
_PATIENCE = 16
"""Blocks after which a byte that was not rare gets another try."""

_STYLE = re.compile(
    rb"(?P<kvm>kvm:)?kvm_(?:msr|cr|entry|exit|pio|apic_\w+)"
    rb"(?:(?P<fields>\()|(?::\w{1,4})?:\s+\w+(?P<raw>=)?)"
    rb"|(?P<bare>\b(?:msr|cr)_(?:read|write)\s+(?:0x)?[0-9a-f]+\s+=)"
    rb"|(?P<probe>\b" + _PROBE + rb")"
)
_PROBE_ADDRESSES = (b": (kvm_", b": (ffffffff")
_ACCESS = rb"msr_(?:read|write)\s+(?:0x)?2[0-9a-f]{2}\b|cr_(?:read|write)\s+0\s"
_REGISTER = (
    # Two letters behind kvm_ tell most other events apart at a single look.
    rb"kvm_[cmzsvatp][rsatecdo]"
    rb"(?:(?<=ms)r(?::\w{1,4})?:\s+(?:msr_(?:read|write)\s+|[^\n]*ecx=(?:0x)?)2[0-9a-f]{2}\b"
    rb"|(?::\w{1,4})?:\s+(?:cr_(?:read|write)\s+|[^\n]*cr=(?:0x)?)0\s"
    rb"|(?:p_gfn_range|rr_set_msr|t_msr_common|st_set_cr0|pu_reset|ch_vcpu_ioctl_set_sregs"
    rb"|ch_(?:un)?register_noncoherent_dma)(?:\+0x0/|\))"
    rb"|p_mmu_spte_changed:)"
)
"""Accesses to registers, kprobes, and leaves that a zap clears."""
_BEFORE = (b" 0 ", b"ecx", b" cr")
"""What stands before the ``=`` of ``cr_write 0 =``, ``ecx=`` and ``cr=``."""


class Style(NamedTuple):
    """How a reader prints events."""

    perf: bool
    raw: bool
    bare: bool
    """Without the event's name."""
    probes: bool
    """There are kprobes."""
    fields: bool
    """As ``kvm_cr(rw: 1, val: 17)``."""


def style(block: Block) -> Style | None:
    """Return the style of the first KVM event in a block, None if there is none."""
    found = _STYLE.search(block.data, block.start, block.end)
    if found is None:
        return None
    kvm, raw, bare, fields = (found[name] is not None for name in ("kvm", "raw", "bare", "fields"))
    head = min(block.end, block.start + LOOKBACK)
    probes = any(block.data.find(at, block.start, head) >= 0 for at in _PROBE_ADDRESSES)
    return Style(kvm, raw, bare, probes, fields)


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


class RegisterAccesses:
    """Accesses to an MSR 2xx or to CR0, by the ``=`` between a register and its value."""

    # The literal in front, kvm_, lets the expression skip through a block as bytes.find does.
    _SLOW = re.compile(_REGISTER)
    _WITH_PROBES = re.compile(_REGISTER + rb"|[ :]" + _PROBE)
    _BARE = re.compile(_ACCESS)

    def __init__(self, *, bare: bool, probes: bool) -> None:
        self._wait = 0
        self._slow = self._BARE if bare else self._SLOW
        if probes:
            self._slow = self._WITH_PROBES

    def positions(self, block: Block) -> list[int]:
        """Return a position on each such line."""
        if self._wait:
            self._wait -= 1
        elif (found := self._fast(block)) is not None:
            return found
        return [
            match.start() + 1 for match in self._slow.finditer(block.data, block.start, block.end)
        ]

    def _fast(self, block: Block) -> list[int] | None:
        """Look at what stands before each ``=``; None if there are too many, or kprobes."""
        data, position, end = block.data, block.start, block.end
        if self._slow is self._WITH_PROBES:
            return None
        found: list[int] = []
        if data.count(b"=", position, position + _SAMPLE) > _RARE * _SAMPLE // SIZE:
            self._wait = _PATIENCE
            return None
        for _ in range(_RARE):
            position = data.find(b"=", position, end)
            if position < 0:
                return found
            before = data[position - 5 : position]
            if before[:2] == b" 2" or before[2:] in _BEFORE or b"\n" in before:
                found.append(position)
            elif before in _FIRST_ARGUMENTS:
                # Their returns have no argument: look at every line from here on.
                self._slow = self._WITH_PROBES
                return None
            position += 1
        self._wait = _PATIENCE
        return None


class Needles:
    """All searches that a style needs."""

    def __init__(self, style: Style) -> None:
        """Losses are printed as ``[LOST 7 EVENTS]``, ``[7 EVENTS DROPPED]``, ``RECORD_LOST``."""
        self._searches: list[RegisterAccesses | Word | Losses]
        self._searches = [RegisterAccesses(bare=style.bare, probes=style.probes)]
        if style.fields:
            self._searches += [Word(b"kvm_msr(", b"("), Word(b"kvm_cr(", b"(")]
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


TRIES = 64
"""Lines of other threads that a search passes before it gives up; real captures need fewer."""
_RESET_VECTOR = re.compile(rb"rip[ =]0xfff0(?![0-9a-f])")
ENTRY = b"kvm_entry"
EXIT = b"kvm_exit"


class Absence:
    """Remembers where a needle is not: a capture without it is not searched at every event."""

    def __init__(self) -> None:
        self._upto: dict[bytes, int] = {}
        """Offset in the capture below which the needle is not near, by needle."""

    def near(self, block: Block, position: int, needle: bytes) -> bool:
        """Tell if the needle is less than ``LOOKBACK`` before a position; positions ascend."""
        first = block.offset - block.start
        low = max(0, position - LOOKBACK, self._upto.get(needle, 0) - first)
        if block.data.rfind(needle, low, position) >= 0:
            return True
        self._upto[needle] = first + position - len(needle)
        return False


def _event(block: Block, position: int, tid: int) -> EventLine | None:
    start, end = block.line_at(position)
    if tid >= 0 and block.data.find(b"%d" % tid, start, end) < 0:
        return None
    line = parse(block.data, start, end)
    return line if line is not None and line.tid == tid else None


def before(block: Block, position: int, tid: int, needle: bytes) -> tuple[EventLine, int] | None:
    """Return the thread's last such event before a position, and where it is; None if not near."""
    low = max(0, position - LOOKBACK)
    for _ in range(TRIES):
        position = block.data.rfind(needle, low, position)
        if position < 0:
            return None
        if (line := _event(block, position, tid)) is not None and line.event == needle:
            return line, position
    return None


def exit_before(block: Block, position: int, tid: int) -> EventLine | None:
    """Return the kvm_exit that led to an event: no kvm_entry of the thread lies between."""
    found = before(block, position, tid, EXIT)
    if found is None:
        return None
    line, where = found
    between = before(block, position, tid, ENTRY)
    return line if between is None or between[1] < where else None


def entry_after(block: Block, position: int, tid: int) -> tuple[EventLine | None, bool]:
    """Return the thread's first kvm_entry behind a position, and if the next block may have it."""
    high = min(block.end, position + LOOKBACK)
    for _ in range(TRIES):
        position = block.data.find(ENTRY, position, high)
        if position < 0:
            return None, high == block.end
        if (line := _event(block, position, tid)) is not None and line.event == ENTRY:
            return line, False
        position += 1
    return None, False


def reset_before(block: Block, position: int, tid: int) -> EventLine | None:
    """Return the thread's nearest kvm_entry at the reset vector, f000:fff0.

    Firmware writes CR0 within a few instructions of it: the write is the place to look from.
    """
    low = max(0, position - LOOKBACK)
    for _ in range(TRIES):
        position = block.data.rfind(b"0xfff0", low, position)
        if position < 0:
            return None
        line = _event(block, position, tid)
        if line is not None and line.event == b"kvm_entry" and _RESET_VECTOR.search(line.body):
            return line
    return None
