"""The trace format: text, one event a line (docs/trace-format.md is its definition).

Version 2 adds the zaps that the kernel made; a trace without them is written as version 1.

Nothing here opens a file: the writer takes a text stream. ``trace_reader`` has the reader.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import NamedTuple, TextIO

from mtrrzap.errors import counted
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.measured_zaps import KernelZaps, format_zaps

MAGIC = "mtrrzap-trace"
VERSION = 2
"""The newest; all older ones are read."""
MAX_LINE = 1 << 16
"""Longest line in characters that is read."""
MAX_VCPUS = 4096
"""KVM's largest KVM_MAX_VCPUS."""


class Slot(NamedTuple):
    """One memslot: guest frames ``[start, end)`` backed by host memory; ``what`` is ram or rom."""

    start: int
    end: int
    what: str


@dataclass(frozen=True, slots=True)
class Header:
    """What was recorded: one ``key: value`` line a field; ``memslot`` and ``note`` may repeat."""

    firmware: str
    """Family first, then version: ``SeaBIOS 1.16.2-debian-1.16.2-1``."""
    guest_kernel: str
    """``Linux 6.1.0-56-amd64``, or ``none``."""
    vcpus: int
    memory: int
    """Guest RAM in bytes, 0 if unknown."""
    maxphyaddr: int
    """Guest MAXPHYADDR in bits (CPUID 0x80000008.EAX[7:0])."""
    machine: str
    recorder: str
    """Program and version that made the trace, and what it ran on."""
    date: str
    """ISO 8601 date (UTC)."""
    command: str
    host_writes: str
    """Where the ``host-wrmsr`` events come from; ``none`` if the trace has none."""
    memslots: tuple[Slot, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def memory_known(self) -> bool:
        """Whether the guest's memory is known: without it, nothing can be walked or timed."""
        return bool(self.memory or self.memslots)

    @property
    def family(self) -> str:
        """The firmware's name without its version."""
        return self.firmware.split(maxsplit=1)[0] if self.firmware.strip() else "unknown"


@dataclass(frozen=True, slots=True, repr=False)
class Trace:
    """A trace in memory. ``incomplete`` says why events are missing at its end, or is None."""

    header: Header
    events: tuple[Event, ...]
    incomplete: str | None = None
    name: str = field(default="", compare=False)
    """The file or shipped recording that it was read from, empty if none."""
    zaps: KernelZaps | None = None
    """What the kernel itself zapped; None: not recorded."""

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        vcpus = counted(self.header.vcpus, "vCPU")
        size = f"{vcpus}, {counted(len(self.events), 'event')}"
        state = "" if self.incomplete is None else ", incomplete"
        return f"<Trace{name}: {self.header.family}, {size}{state}>"

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)


# ---- writing ----------------------------------------------------------------------------------


def _one_line(text: str) -> str:
    return " ".join(text.split())


def format_header(header: Header, version: int = 1) -> str:
    """Return the header as text, its closing blank line included."""
    lines = [f"{MAGIC} {version}"]
    for each in fields(Header):
        value = getattr(header, each.name)
        key = each.name.replace("_", "-")
        if each.name == "memslots":
            lines += [f"memslot: {s.start:#x} {s.end:#x} {s.what}" for s in header.memslots]
        elif each.name == "notes":
            lines += [f"note: {_one_line(note)}" for note in header.notes]
        else:
            lines.append(f"{key}: {_one_line(str(value))}")
    return "\n".join(lines) + "\n\n"


def format_event(event: Event) -> str:
    """Return one event as its line, without the line end."""
    words = [str(event.vcpu), event.kind.value]
    if event.kind in (Kind.WRMSR, Kind.HOST_WRMSR, Kind.HELD_MSR):
        words += [f"{event.msr:#x}", f"{event.value:#x}"]
    elif event.kind in (Kind.CR0, Kind.HELD_CR0):
        words.append(f"{event.value:#x}")
    if event.refused:
        words.append("#GP")
    if event.time_ns is not None:
        words.append(f"@{event.time_ns}")
    return " ".join(words)


def format_end(events: int, incomplete: str | None) -> str:
    """Return the closing line without its line end; ``incomplete`` says why, if it is."""
    state = "complete" if incomplete is None else f"incomplete: {_one_line(incomplete)}"
    return f"end {events} {state}"


class Writer:
    """Write a trace to a text stream as it happens; ``end`` closes it, complete or not."""

    def __init__(self, stream: TextIO, header: Header) -> None:
        """Write the header at once, so that a killed recorder still leaves it."""
        self._stream = stream
        self.count = 0
        stream.write(format_header(header))
        stream.flush()

    def write(self, event: Event) -> None:
        """Append one event."""
        self._stream.write(format_event(event) + "\n")
        self.count += 1

    def end(self, incomplete: str | None = None) -> None:
        """Write the closing line; ``incomplete`` says why the trace is not whole."""
        self._stream.write(format_end(self.count, incomplete) + "\n")
        self._stream.flush()


def version_of(trace: Trace) -> int:
    """Return the oldest version that can hold a trace."""
    return 1 if trace.zaps is None else 2


def zap_lines(trace: Trace) -> list[str]:
    """Return the lines of the section with the kernel's zaps, empty if there is none."""
    return [] if trace.zaps is None else format_zaps(trace.zaps)


def trace_lines(trace: Trace) -> Iterator[str]:
    """Yield a whole trace as text: the header in one piece, then line by line."""
    yield format_header(trace.header, version_of(trace))
    for event in trace.events:
        yield format_event(event) + "\n"
    yield from (f"{line}\n" for line in zap_lines(trace))
    yield format_end(len(trace.events), trace.incomplete) + "\n"


def dumps(trace: Trace) -> str:
    """Return a whole trace as text."""
    return "".join(trace_lines(trace))
