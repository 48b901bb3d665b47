"""One line of a capture: who printed which KVM event when. All readers' forms in one expression.

``trace-cmd report``    ``CPU 0/KVM-151 [001] 26.93: kvm_cr:  cr_write 0 = 0x11``
ftrace                  ``CPU 0/KVM-151 [001] ..... 27.22: kvm_cr: cr_write 0 = 0x11``
ftrace, record-tgid     ``CPU 0/KVM-151 (146) [001] ..... 27.22: kvm_cr: cr_write 0 = 0x11``
``perf script``         ``CPU 0/KVM 146/151 [001] 26.93:  kvm:kvm_cr: cr_write 0 = 0x11``
``trace-cmd report -R`` ``CPU 0/KVM-151 [001] 26.93: kvm_cr:  rw=1 cr=0 val=0x11``
"""

import re
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


class Line(NamedTuple):
    """The parts that every KVM event has. ``time_ns`` is None if the clock does not count time."""

    name: bytes | None
    """The thread's name, None where the reader did not know it."""
    tid: int
    tgid: int | None
    """The process, which most forms lack."""
    time_ns: int | None
    event: bytes
    body: bytes


def parse(data: bytes, start: int, end: int) -> Line | None:
    """Return the line ``data[start:end]`` in parts, None if it is no event of KVM."""
    found = _LINE.match(data, start, end)
    if found is None:
        return None
    group = found["tgid"] or found["group"]
    name = found["name"].strip()
    return Line(
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
