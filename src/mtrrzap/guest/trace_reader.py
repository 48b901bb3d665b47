"""The reader of the trace format: strict, line by line, every error with its line and a remedy.

It takes an iterable of lines, and opens no file.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import fields
from datetime import date
from itertools import pairwise
from typing import IO, Any

from mtrrzap.errors import UserError, counted, docs_page
from mtrrzap.gfn import PAGE_SHIFT
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.measured_zaps import ZAPS, KernelZaps, parse_zaps
from mtrrzap.guest.trace import MAGIC, MAX_LINE, MAX_VCPUS, VERSION, Header, Slot, Trace

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_HEX = re.compile(r"0x0*[0-9a-f]{1,16}")
_HEADER_KEYS: dict[str, Callable[[str], str | int]] = {
    field.name.replace("_", "-"): int if field.type is int else str
    for field in fields(Header)
    if field.name not in ("memslots", "notes")
}
MAX_SLOTS = 4096
"""KVM takes 32,764 (KVM_USER_MEM_SLOTS), QEMU's machines have some dozens."""
_LIMITS = {"vcpus": (1, MAX_VCPUS), "memory": (0, 1 << 52), "maxphyaddr": (32, 52)}
_KINDS = {kind.value: kind for kind in Kind}
_SHAPES = {
    Kind.WRMSR: "VCPU wrmsr 0xMSR 0xVALUE [#GP]",
    Kind.HOST_WRMSR: "VCPU host-wrmsr 0xMSR 0xVALUE",
    Kind.CR0: "VCPU cr0 0xVALUE",
    Kind.RESET: "VCPU reset",
    Kind.INIT: "VCPU init",
    Kind.HELD_CR0: "VCPU held-cr0 0xVALUE",
    Kind.HELD_MSR: "VCPU held-msr 0xMSR 0xVALUE",
}
_WORDS = {kind: len(shape.removesuffix(" [#GP]").split()) for kind, shape in _SHAPES.items()}


class Reader:
    """Read a trace line by line: the header when made, the events by iterating, strictly.

    ``incomplete`` is known once the iteration has ended. Every error is a ``UserError`` whose place
    is ``name:line``.
    """

    def __init__(self, lines: Iterable[str], name: str) -> None:
        """Read the header of ``lines``; ``name`` is used in errors only."""
        self._lines = enumerate(lines, start=1)
        self._name = name
        self._number = 0
        self.incomplete: str | None = None
        self.zaps: KernelZaps | None = None
        self._version = VERSION
        self.header = self._read_header()

    def _error(self, problem: str, mend: str) -> UserError:
        return UserError(problem, place=f"{self._name}:{self._number}", mend=mend)

    def _next(self) -> str | None:
        """Return the next line without its line end, or None at the end of the file."""
        item = next(self._lines, None)
        if item is None:
            return None
        self._number, line = item
        if len(line) > MAX_LINE:
            raise self._error(
                f"a line of more than {MAX_LINE} characters", "is this a trace? see the first line"
            )
        if not line.endswith("\n"):
            raise self._error(
                f"the last line is cut short: {line[:60]!r}",
                "delete it and append 'end N incomplete: REASON', N being the number of events",
            )
        line = line[:-1]
        if not (line.isascii() and line.isprintable()):
            self._check_text(line)
        return line

    def _check_text(self, line: str) -> None:
        if any("\ud800" <= char <= "\udfff" for char in line):
            raise self._error("bytes that are not UTF-8", "is this a trace? see the first line")
        if "\r" in line:
            raise self._error("a carriage return", "end lines with a line feed alone")

    # -- header

    def _read_header(self) -> Header:
        self._read_magic()
        values: dict[str, str] = {}
        slots: list[Slot] = []
        notes: list[str] = []
        while line := self._next():
            key, colon, value = line.partition(":")
            value = value.removeprefix(" ")
            if not colon:
                raise self._error(
                    f"not a header line: {line[:60]!r}",
                    "header lines are 'key: value', an empty line ends the header",
                )
            if key == "memslot":
                slots.append(self._slot(value))
                if len(slots) > MAX_SLOTS:
                    raise self._error(f"more than {MAX_SLOTS:,} memslots", "leave out the others")
            elif key == "note":
                notes.append(value)
            elif key in values or key not in _HEADER_KEYS:
                what = "a second" if key in values else "an unknown"
                raise self._error(f"{what} header key {key!r}", f"see {docs_page('trace-format')}")
            else:
                values[key] = self._header_value(key, value)
        if line is None:
            raise self._error("the file ends inside the header", "record the guest again")
        return self._header(values, tuple(slots), tuple(notes))

    def _read_magic(self) -> None:
        words = (self._next() or "").split()
        self._number = 1
        if len(words) != 2 or words[0] != MAGIC:
            raise self._error(
                f"not a trace: the first line is not '{MAGIC} {VERSION}'",
                "make traces with 'mtrrzap record' or 'mtrrzap import'",
            )
        if words[1] not in map(str, range(1, VERSION + 1)):
            raise self._error(
                f"unknown trace format version {words[1]}; this is version {VERSION}",
                "use the version of mtrrzap that wrote it",
            )
        self._version = int(words[1])

    def _header(
        self, values: dict[str, str], slots: tuple[Slot, ...], notes: tuple[str, ...]
    ) -> Header:
        for key in _HEADER_KEYS:
            if key not in values:
                raise self._error(f"the header lacks {key!r}", f"see {docs_page('trace-format')}")
        if any(a.end > b.start for a, b in pairwise(sorted(slots))):
            raise self._error("two memslots overlap", "fix their lines (gfns, half-open)")
        known: dict[str, Any] = {
            key.replace("-", "_"): _HEADER_KEYS[key](value) for key, value in values.items()
        }
        top = max((known["memory"], *(slot.end << PAGE_SHIFT for slot in slots)))
        if top > 1 << known["maxphyaddr"]:
            raise self._error(
                f"memory up to {top:#x} is beyond maxphyaddr, {known['maxphyaddr']} bits",
                "fix 'maxphyaddr', 'memory' (bytes) or the memslots (gfns)",
            )
        return Header(**known, memslots=slots, notes=notes)

    def _header_value(self, key: str, value: str) -> str:
        if _HEADER_KEYS[key] is int:
            if not (value.isascii() and value.isdecimal()):
                raise self._error(f"{key} is not a decimal number: {value[:40]!r}", "fix the line")
            low, high = _LIMITS[key]
            if len(value) > 20 or not low <= int(value) <= high:
                raise self._error(f"{key} {value[:40]} is not in {low}..{high}", "fix the line")
        elif key == "date" and not _is_date(value):
            raise self._error(f"not a date: {value[:40]!r}", "write YYYY-MM-DD")
        elif key == "firmware" and not value.strip():
            raise self._error(
                "the firmware has no name", "write its family and version, or 'unknown'"
            )
        return value

    def _slot(self, value: str) -> Slot:
        words = value.split()
        if len(words) != 3 or words[2] not in ("ram", "rom"):
            raise self._error(
                f"not a memslot: {value[:60]!r}", "write 'START END ram' or 'START END rom'"
            )
        start, end = self._hex(words[0]), self._hex(words[1])
        if start >= end:
            raise self._error(f"memslot {value[:60]!r} is empty", "END must be above START (gfns)")
        return Slot(start, end, words[2])

    def _hex(self, word: str) -> int:
        if not _HEX.fullmatch(word):
            raise self._error(f"invalid 64-bit hex number {word[:40]!r}", "write it as 0x1f")
        return int(word, 16)

    # -- events

    def __iter__(self) -> Iterator[Event]:
        """Yield the events in order; check the closing line; set ``incomplete``."""
        count = 0
        vcpus = self.header.vcpus
        while (line := self._next()) is not None:
            if line.startswith("end "):
                self._read_end(line, count)
                return
            if line.startswith(ZAPS) and self._version > 1:
                self.zaps = self._read_zaps(line, count)
                continue
            if self.zaps is not None:
                raise self._error(
                    f"an event behind the zaps: {line[:60]!r}", "fix the zaps' number"
                )
            event = self._event(line)
            if event.vcpu >= vcpus:
                raise self._error(
                    f"vCPU {event.vcpu} in a trace of {vcpus} vCPUs", "fix 'vcpus' in the header"
                )
            yield event
            count += 1
        raise self._error(
            f"the trace stops after {counted(count, 'event')} without an 'end' line",
            f"its recorder was killed: to use what is there, append 'end {count} incomplete: why'",
        )

    def _event(self, line: str) -> Event:
        words = line.split(" ")
        time_ns: int | None = None
        if words[-1].startswith("@"):
            stamp = words.pop()[1:]
            if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= 20):
                raise self._error(f"not a time stamp: '@{stamp[:40]}'", "write nanoseconds: @123")
            time_ns = int(stamp)
        refused = words[-1:] == ["#GP"]
        if refused:
            words.pop()
        kind = _KINDS.get(words[1]) if len(words) >= 2 else None
        if kind is None:
            raise self._error(
                f"unknown event: {line[:60]!r}", f"expected one of {', '.join(_KINDS)}"
            )
        if len(words) != _WORDS[kind] or (refused and kind is not Kind.WRMSR):
            raise self._error(f"malformed event: {line[:60]!r}", f"write '{_SHAPES[kind]}'")
        if not (words[0].isascii() and words[0].isdecimal() and len(words[0]) <= 9):
            raise self._error(f"not a vCPU number: {words[0][:40]!r}", "vCPUs count from 0")
        numbers = [self._hex(word) for word in words[2:]]
        msr = numbers.pop(0) if len(numbers) == 2 else 0
        if msr >> 32:
            raise self._error(f"MSR number {msr:#x} has more than 32 bits", "fix the line")
        return Event(int(words[0]), kind, msr, numbers[0] if numbers else 0, refused, time_ns)

    def _read_zaps(self, line: str, events: int) -> KernelZaps:
        if self.zaps is not None:
            raise self._error("a second section of zaps", "delete it")
        try:
            return parse_zaps(line, self._next, events, self.header.vcpus)
        except ValueError as error:
            raise self._error(str(error), f"see {docs_page('trace-format')}") from error

    def _read_end(self, line: str, count: int) -> None:
        words = line.split(" ", 3)
        if len(words) < 3 or (words[2:] != ["complete"] and words[2] != "incomplete:"):
            raise self._error(
                f"malformed end: {line[:60]!r}", "write 'end N complete' or 'end N incomplete: why'"
            )
        if words[1] != str(count):
            raise self._error(
                f"the end line counts {words[1][:20]} events, the trace has {count}",
                "the file was edited or cut: restore it, or fix the number",
            )
        if words[2] == "incomplete:":
            self.incomplete = words[3] if len(words) == 4 else "no reason given"
        if self._next() is not None:
            raise self._error("text after the end line", "delete it")


def lines_of(stream: IO[str]) -> Iterator[str]:
    """Yield a text stream's lines; one over ``MAX_LINE`` comes in parts, the first too long."""
    return iter(lambda: stream.readline(MAX_LINE + 1), "")


def parse(lines: Iterable[str], name: str) -> Trace:
    """Read a whole trace into memory. Raises ``UserError`` at the first line that is wrong."""
    reader = Reader(lines, name)
    events = tuple(reader)
    return Trace(reader.header, events, reader.incomplete, name, reader.zaps)


def _is_date(text: str) -> bool:
    """Say whether a text is ``YYYY-MM-DD``, of a day that there is, or ``unknown``."""
    if _DATE.fullmatch(text):
        with suppress(ValueError):
            return bool(date.fromisoformat(text))
    return text == "unknown"
