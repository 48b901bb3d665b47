"""The text of one KVM trace event: its thread, time and name, and the values that it prints.

``parse`` reads all readers' forms with one expression::

    trace-cmd report     CPU 0/KVM-151 [001] 26.93: kvm_cr:  cr_write 0 = 0x11
    ftrace               CPU 0/KVM-151 [001] ..... 27.22: kvm_cr: cr_write 0 = 0x11
    ftrace, record-tgid  CPU 0/KVM-151 (146) [001] ..... 27.22: kvm_cr: cr_write 0 = 0x11
    perf script          CPU 0/KVM 146/151 [001] 26.93:  kvm:kvm_cr: cr_write 0 = 0x11
    trace-cmd report -R  CPU 0/KVM-151 [001] 26.93: kvm_cr:  rw=1 cr=0 val=0x11

The other functions read the values. Their forms are the print templates of arch/x86/kvm/trace.h
(v6.1); ``trace-cmd report -R`` prints the same fields as ``name=value``.
"""

import re
from enum import IntEnum
from typing import NamedTuple

from mtrrzap.guest.trace import MAX_VCPUS

_LINE = re.compile(
    rb"\s*(?P<name>\S.{0,31}?)(?:-|\s+)"
    rb"(?:(?P<tgid>\d{1,10})/)?(?P<tid>\d{1,10})\s+"
    rb"(?:\(\s*(?P<group>\d{1,10}|-+)\)\s+)?"
    rb"(?:\[(?P<cpu>\d{1,6})\]\s+)?"
    rb"(?:[^\s:]{3,8}\s+)?"
    rb"(?P<time>\d{1,20}(?:\.\d{1,9})?):\s+"
    rb"(?:\d+\s+)?(?:kvm:)?(?P<event>kvm_\w+):\s+(?P<body>.*)"
)
_UNNAMED = re.compile(rb"<\.\.\.>|:\d+")
_NUMBER = re.compile(rb"(?:CPU (\d{1,6})/KVM|(?:\w+_)?vcpu ?(\d{1,6}))\Z")
_VCPU = re.compile(rb"vcpu(?:_id=| )(\d{1,6})\b")


class EventLine(NamedTuple):
    """The parts that every KVM event has. ``time_ns`` is None if the clock does not count time."""

    name: bytes | None
    """The thread's name, None where the reader did not know it."""
    tid: int
    tgid: int | None
    """The process, which most forms lack."""
    time_ns: int | None
    event: bytes
    body: bytes


def parse(data: bytes, start: int, end: int) -> EventLine | None:
    """Return the line ``data[start:end]`` in parts, None if it is not a KVM event."""
    found = _LINE.match(data, start, end)
    if found is None:
        return None
    group = found["tgid"] or found["group"]
    name = found["name"].strip()
    return EventLine(
        name=None if _UNNAMED.fullmatch(name) else name,
        tid=int(found["tid"]),
        tgid=int(group) if group and group.isdigit() else None,
        time_ns=_nanoseconds(found["time"]),
        event=found["event"],
        body=found["body"].strip(),
    )


def _nanoseconds(stamp: bytes) -> int | None:
    """Return seconds with a fraction as ns; a number without a point is a cycle counter's."""
    seconds, point, fraction = stamp.partition(b".")
    if not point or len(seconds) > 9:
        return None
    return int(seconds) * 10**9 + int(fraction.ljust(9, b"0"))


def vcpu_of_name(name: bytes | None) -> int | None:
    """Return the vCPU that a thread's name gives: QEMU's ``CPU 3/KVM``, others' ``vcpu3``."""
    found = _NUMBER.match(name) if name else None
    number = int(found[1] or found[2]) if found else MAX_VCPUS
    return number if number < MAX_VCPUS else None


def vcpu_of_body(body: bytes) -> int | None:
    """Return the vCPU that a kvm_entry or kvm_exit names; trace-cmd's kvm_exit has none."""
    found = _VCPU.search(body)
    number = int(found[1]) if found else MAX_VCPUS
    return number if number < MAX_VCPUS else None


_MSR = re.compile(
    rb"msr_(?P<what>read|write) (?P<msr>[0-9a-f]{1,8}) = 0x(?P<value>[0-9a-f]{1,16})"
    rb"(?P<refused> \(#GP\))?"
)
_MSR_RAW = re.compile(
    rb"write=(?P<what>[01]) ecx=(?:0x)?(?P<msr>[0-9a-f]{1,8}) "
    rb"data=(?:0x)?(?P<value>[0-9a-f]{1,16}) exception=(?P<refused>[01])"
)
_CR = re.compile(
    rb"cr_(?P<what>read|write) (?P<cr>[0-9a-f]{1,2}) = 0x(?P<value>[0-9a-f]{1,16})"
    rb"|rw=(?P<raw>[01]) cr=(?P<raw_cr>\d{1,2}) val=(?:0x)?(?P<raw_value>[0-9a-f]{1,16})"
)
_ACCEPT = re.compile(rb"apicid (?P<apic>[0-9a-f]{1,8}) vec \d+ \(INIT\|(?P<trigger>edge|level)\)")
_ACCEPT_RAW = re.compile(rb"apicid=(?P<apic>\d{1,10}) dm=(?:1280|0x500) tm=(?P<trigger>\w+) ")
_IPI = re.compile(
    rb"dst (?P<dst>[0-9a-f]{1,8}) vec \d+ "
    rb"\(INIT\|(?P<mode>physical|logical)\|(?P<assert>assert|de-assert)\|"
    rb"(?P<trigger>edge|level)\|(?P<to>dst|self|all|all-incl-self|all-but-self)\)"
)


class Shorthand(IntEnum):
    """To whom an IPI goes."""

    DST = 0
    SELF = 1
    ALL = 2
    OTHERS = 3


_SHORTHANDS = {
    b"dst": Shorthand.DST,
    b"self": Shorthand.SELF,
    b"all": Shorthand.ALL,
    b"all-incl-self": Shorthand.ALL,
    b"all-but-self": Shorthand.OTHERS,
}


class Access(NamedTuple):
    """A read or write of an MSR or a control register."""

    write: bool
    number: int
    value: int
    refused: bool


class Accepted(NamedTuple):
    """An INIT at its target."""

    apic: int
    level: bool


class Ipi(NamedTuple):
    """An INIT at its sender."""

    dst: int
    physical: bool
    deassert: bool
    to: Shorthand


def msr(body: bytes) -> Access | None:
    """Read a kvm_msr; None if it is malformed."""
    found = _MSR.fullmatch(body) or _MSR_RAW.fullmatch(body)
    if found is None:
        return None
    write = found["what"] in (b"write", b"1")
    refused = found["refused"] not in (None, b"0")
    return Access(write, int(found["msr"], 16), int(found["value"], 16), refused)


def cr(body: bytes) -> Access | None:
    """Read a kvm_cr; None if it is malformed."""
    found = _CR.fullmatch(body)
    if found is None:
        return None
    if found["raw"] is not None:
        return Access(
            found["raw"] == b"1", int(found["raw_cr"]), int(found["raw_value"], 16), False
        )
    return Access(found["what"] == b"write", int(found["cr"], 16), int(found["value"], 16), False)


def accepted(body: bytes) -> Accepted | None:
    """Read a kvm_apic_accept_irq of an INIT; None if it is something else."""
    if found := _ACCEPT.match(body):
        return Accepted(int(found["apic"], 16), found["trigger"] == b"level")
    if found := _ACCEPT_RAW.match(body):
        return Accepted(int(found["apic"]), found["trigger"] not in (b"0", b"0x0"))
    return None


def ipi(body: bytes) -> Ipi | None:
    """Read a kvm_apic_ipi of an INIT; None if it is something else. Raw fields lack the mode."""
    if (found := _IPI.match(body)) is None:
        return None
    return Ipi(
        int(found["dst"], 16),
        found["mode"] == b"physical",
        # The level bit means something for level-triggered INITs only (SDM vol. 3, "Issuing IPIs").
        found["assert"] == b"de-assert" and found["trigger"] == b"level",
        _SHORTHANDS[found["to"]],
    )
