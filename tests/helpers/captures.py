"""Captures for tests: the real ones of tests/data/captures, and lines to make small ones of."""

import lzma
from collections.abc import Iterable, Iterator

from helpers.paths import DATA
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.importer import Capture, Known, read_capture
from mtrrzap.guest.importer.scan import Source
from mtrrzap.guest.trace import Trace
from mtrrzap.x86 import msr as m

FOLDER = DATA / "captures"
"""Of a real KVM; data/captures/README.md says how they were made."""
SAME_BOOT = ("report", "trace", "trace_pipe", "perf-script")
"""One boot of two vCPUs seen by four readers at once."""
WITH_EXITS = ("all-events-report", "all-events-trace", "all-events-raw-report")
"""Another boot, with kvm_entry, kvm_exit and the APIC's events."""


def text(name: str) -> bytes:
    return lzma.decompress((FOLDER / f"{name}.txt.xz").read_bytes())


def source(data: bytes, size: int = 1 << 20) -> Source:
    def chunks() -> Iterator[bytes]:
        return (data[start : start + size] for start in range(0, len(data), size))

    return chunks


def capture(data: bytes) -> Capture:
    return read_capture(source(data), "capture")


def imported(data: bytes, known: Known | None = None, vm: int = 0) -> Trace:
    found = capture(data)
    return found.trace(found.vms[vm], known or Known()).trace


def per_vcpu(trace: Trace) -> dict[str, list[str]]:
    """Return what expected.json lists: MTRR writes, and CR0 writes that change CD or NW."""
    found: dict[str, list[str]] = {str(vcpu): [] for vcpu in range(trace.header.vcpus)}
    for event in trace.events:
        if event.kind is Kind.CR0:
            found[str(event.vcpu)].append(f"cr0={event.value:x}")
        elif event.kind is Kind.WRMSR and event.msr in m.MTRR_MSRS:
            found[str(event.vcpu)].append(f"{event.msr:x}={event.value:x}")
    return found


def timeless(events: Iterable[Event]) -> list[Event]:
    return [event._replace(time_ns=None) for event in events]


def line(
    body: str, *, name: str = "CPU 0/KVM", tid: int = 100, us: int = 0, tgid: str = ""
) -> bytes:
    """Return a line of ftrace; ``us`` is its time in microseconds."""
    stamp = f"{us // 10**6}.{us % 10**6:06}"
    return f"{name:>16}-{tid:<7} {tgid}[001] d..1. {stamp}: {body}\n".encode()


POWER_ON = line("kvm_cr: cr_read 0 = 0x60000010")
ENABLE = line("kvm_cr: cr_write 0 = 0x11", us=1)
