"""The text of one KVM trace event: its thread, time and name, and the values that it prints.

``parse`` reads the forms of all readers::

    trace-cmd report     CPU 0/KVM-151 [001] 26.93: kvm_cr:  cr_write 0 = 0x11
    ... --ts-diff        CPU 0/KVM-151 [001] 26.93: (+2155) kvm_cr:  cr_write 0 = 0x11
    ... -l               CPU 0/KV-151     1d..1 26.93: kvm_cr:  cr_write 0 = 0x11
    ... -R               CPU 0/KVM-151 [001] 26.93: kvm_cr:  rw=1 cr=0 val=0x11
    ftrace               CPU 0/KVM-151 [001] ..... 27.22: kvm_cr: cr_write 0 = 0x11
    ... record-tgid      CPU 0/KVM-151 (146) [001] ..... 27.22: kvm_cr: cr_write 0 = 0x11
    ... latency-format   CPU 0/KV-151     1d..1.   12us+: kvm_cr: cr_write 0 = 0x11
    ... and verbose      CPU 0/KVM   151   1 0 00000000 00000000 [0000] 12.345ms (+0.001ms): ...
    perf script          CPU 0/KVM 146/151 [001] 26.93:  kvm:kvm_cr: cr_write 0 = 0x11
    perf trace           0.012 CPU 0/KVM/151 kvm:kvm_cr(rw: 1, val: 17)

perf script leaves out the fields that its user did not choose; then ``tid`` is made of what is left
(``THREADLESS``). The other functions read the values. Their forms are the print templates of
arch/x86/kvm/trace.h (v6.1); ``trace-cmd report -R`` prints the same fields as ``name=value``.
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from mtrrzap.guest.trace import MAX_VCPUS

_CPU = rb"(?:\[(?P<cpu>\d{1,6})\]\s+)?(?:\d{0,5}[dDbBX.-][^\s:]{0,9}\s+|[A-Z]{1,3}\s+)?"
"""The host's CPU and the interrupt flags; latency formats write both as one word."""
_TIME = (
    rb"(?:(?:(?P<time>\d{1,20}(?:\.\d{1,9})?)[+!#*@$]?|(?P<us>\d{1,15})us[^\s:\w]?\s?)\s?:\s+)?"
    rb"(?:\(\+\d+\)\s+)?(?:\d+\s+)?"
)
"""The time stamp, the distance to the event before, and perf's period."""
_EVENT = (
    rb"(?:(?:\w+:)?(?P<event>kvm_\w+(?=:)|\w+(?=:\s+\((?:[\w.]+\+0x|[0-9a-f]{8,16}[) ])))"
    rb"(?::[ukhGHp]{1,4})?:\s+)?"
    rb"(?P<body>(?(event).*|(?:msr|cr)_(?:read|write)\s.*))"
)
"""A probe has a name that its user chose, and begins with the address in parentheses."""
_USUAL = re.compile(
    rb"\s*(?P<name>\S.{0,31}?)(?:-|\s+)"
    rb"(?:(?P<tgid>\d{1,10})/)?(?P<tid>\d{1,10})\s+"
    rb"(?:\(\s*(?P<group>\d{1,10}|-+)\)\s+)?"
    rb"(?:\[\d{1,6}\]\s+)?(?:[^\s:\d][^\s:]{2,7}\s+)?"
    rb"(?P<time>\d{1,20}(?:\.\d{1,9})?):\s+"
    rb"(?:\d+\s+)?(?:kvm:)?(?P<event>kvm_\w+):\s+(?P<body>.*)"
)
"""Most lines of most captures, for speed; ``_LINE`` reads them, too."""
_LINE = re.compile(
    rb"\s*(?:(?P<name>\S.{0,31}?)(?<!:)(?:-|\s+))?"
    rb"(?:(?P<tgid>\d{1,10})/)?(?P<tid>\d{1,10})\s+"
    rb"(?:\(\s*(?P<group>\d{1,10}|-+)\)\s+)?" + _CPU + _TIME + _EVENT
)
_VERBOSE = re.compile(
    rb"\s*(?P<name>\S.{0,31}?)\s+(?P<tid>\d{1,10})\s+(?P<cpu>\d{1,6})\s+\d+\s+[0-9a-f]{8}\s+"
    rb"(?:[0-9a-f]{8}\s+)?\[[0-9a-f]+\]\s+(?P<ms>\d{1,12}\.\d{3})ms\s+\(\+[\d.]+ms\)\s?:\s+"
    + _EVENT
)
_PERF_TRACE = re.compile(
    rb"\s*(?P<ms>\d{1,12}\.\d{3})\s+(?:\(\s*[\d.]*(?: ms)?\s*\):\s+)?"
    rb"(?:(?P<name>\S.{0,31}?)/)?(?:(?P<tid>\d{1,10})\s+)?"
    rb"(?:\w+:)?(?P<event>kvm_\w+)\((?P<body>[^()]*(?:\(#GP\))?)\)\s*"
)
_NO_THREAD = re.compile(rb"\s*(?:(?P<name>[^\s\[\]:][^\[\]:]{0,15}?)\s+)?" + _CPU + _TIME + _EVENT)
_NAME_AND_NUMBER = re.compile(rb"(?:\w+_|kvm-)?vcpu|EMT")
"""Names that always have a number behind them."""
THREADLESS = -(1 << 30)
"""A ``tid`` below 0 stands for a thread that the line does not number: ``BY_NAME_ALONE`` plus the
vCPU of its name, ``BY_CPU_ALONE`` plus the host's CPU, or this if it has neither."""
BY_NAME_ALONE = -(1 << 28)
BY_CPU_ALONE = -(1 << 27)
_UNNAMED = re.compile(rb"<\.\.\.>|:\d+")
_PASTED = rb"(?:.*[\s>:|])?"
"""What mail, grep and editors put before a line is taken for a part of the name."""
_NUMBER = re.compile(
    _PASTED
    + rb"(?:CPU (\d{1,6})/KVM|(?:\w+_)?vcpu[ _-]?(\d{1,6})|kvm-vcpu-(\d{1,6})|EMT-(\d{1,6}))\Z"
)
_CUT = re.compile(_PASTED + rb"CPU (?:(\d)/KV|(\d\d)/K|(\d{3})/|(\d{4}))\Z")
"""QEMU's names in latency formats, which show 8 characters."""
_VCPU = re.compile(rb"vcpu(?:_id=|_id: | )(\d{1,6})\b")


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
    found = _USUAL.match(data, start, end)
    if found is not None and not found["name"].endswith((b"vcpu", b"EMT")):
        name, tgid, tid, group, time, event, body = found.groups()
        name, group = name.strip(), tgid or group
        return EventLine(
            None if name[:1] in (b"<", b":") and _UNNAMED.fullmatch(name) else name,
            int(tid),
            int(group) if group and group.isdigit() else None,
            _seconds(time),
            event,
            body.strip(),
        )
    for form in (_LINE, _VERBOSE, _PERF_TRACE, _NO_THREAD):
        if (found := form.fullmatch(data, start, end)) is not None:
            return _unusual(data, found)
    return None


def _unusual(data: bytes, found: re.Match[bytes]) -> EventLine:
    parts = found.groupdict()
    name, tid = parts["name"], parts.get("tid")
    name = None if name is None or _UNNAMED.fullmatch(name.strip()) else name.strip()
    if name and tid and _is_name_alone(name, data, found):
        name, tid = data[found.start("name") : found.end("tid")], None
    body = parts["body"].strip()
    group = parts.get("tgid") or parts.get("group")
    return EventLine(
        name=name,
        tid=int(tid) if tid else _made_up(name, parts.get("cpu")),
        tgid=int(group) if group and group.isdigit() else None,
        time_ns=_nanoseconds(parts),
        event=parts["event"] or (b"kvm_msr" if body.startswith(b"msr") else b"kvm_cr"),
        body=body,
    )


def _is_name_alone(name: bytes, data: bytes, found: re.Match[bytes]) -> bool:
    """Tell if what looks like a thread id is part of the name: perf may print a name alone."""
    by_perf = data.find(b"kvm:kvm_", found.end("tid"), found.end()) >= 0
    process = found.groupdict().get("tgid")
    return by_perf and process is None and _NAME_AND_NUMBER.fullmatch(name) is not None


def _made_up(name: bytes | None, cpu: bytes | None) -> int:
    vcpu = vcpu_of_name(name)
    if vcpu is not None:
        return BY_NAME_ALONE + vcpu
    return THREADLESS if cpu is None else BY_CPU_ALONE + int(cpu)


def _nanoseconds(parts: dict[str, bytes | None]) -> int | None:
    """Return the time stamp in ns; a number without a point is a cycle counter's."""
    if us := parts.get("us"):
        return int(us) * 1000
    if ms := parts.get("ms"):
        return int(ms.replace(b".", b"")) * 1000
    return _seconds(parts.get("time") or b"")


def _seconds(stamp: bytes) -> int | None:
    seconds, point, fraction = stamp.partition(b".")
    if not point or len(seconds) > 10:
        return None
    return int(seconds) * 10**9 + int(fraction.ljust(9, b"0"))


@lru_cache(maxsize=4096)
def vcpu_of_name(name: bytes | None) -> int | None:
    """Return the vCPU that a thread's name gives, None if it gives none.

    QEMU and libvirt: ``CPU 3/KVM``; cloud-hypervisor: ``vcpu3``; Firecracker: ``fc_vcpu 3``;
    crosvm: ``crosvm_vcpu3``; kvmtool: ``kvm-vcpu-3``; VirtualBox: ``EMT-3``.
    """
    found = name and (_NUMBER.match(name) or _CUT.match(name))
    number = int(next(filter(None, found.groups()))) if found else MAX_VCPUS
    return number if number < MAX_VCPUS else None


def vcpu_of_body(body: bytes) -> int | None:
    """Return the vCPU that a kvm_entry or kvm_exit names; trace-cmd's kvm_exit has none."""
    found = _VCPU.search(body)
    number = int(found[1]) if found else MAX_VCPUS
    return number if number < MAX_VCPUS else None


_BEHIND = rb"(?:\s+(?:[0-9a-f]{8,16}\b|/|\[unknown\]).*)?"
"""What perf script prints behind an event: its instruction pointer and symbol, or its cgroup."""
_MSR = re.compile(
    rb"msr_(?P<what>read|write)\s+(?:0x)?(?P<number>[0-9a-f]{1,8})\s+=\s+0x(?P<value>[0-9a-f]{1,16})"
    rb"(?P<refused>\s+\(#GP\))?" + _BEHIND
)
_CR = re.compile(
    rb"cr_(?P<what>read|write)\s+(?P<number>[0-9a-f]{1,2})\s+=\s+0x(?P<value>[0-9a-f]{1,16})"
    rb"(?P<refused>(?!))?" + _BEHIND
)
_FIELD = re.compile(rb"(\w+)(=|: ?)\(?(-?(?:0x)?[0-9a-f]{1,20})(?![0-9a-fx])")
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
    return _access(body, _MSR, (b"write", b"ecx", b"data", b"exception"))


def cr(body: bytes) -> Access | None:
    """Read a kvm_cr; None if it is malformed."""
    return _access(body, _CR, (b"rw", b"cr", b"val"))


def _access(body: bytes, form: re.Pattern[bytes], fields: tuple[bytes, ...]) -> Access | None:
    """Read an access by its print template, or by its fields: write or read, number, value."""
    if found := form.fullmatch(body):
        what, number, value, refused = found.groups()
        return Access(what == b"write", int(number, 16), int(value, 16), refused is not None)
    known: dict[bytes, int | None] = {}
    # perf trace leaves out what is 0, and prints decimal numbers.
    omits = b"=" not in body
    for name, _, text in _FIELD.findall(body):
        known[name] = _number(text, 10 if omits else 16)
    # bpftrace's line may do without the exception; ftrace's was cut there: 0x2ff (767), or 2ff.
    wanted = fields[:3] if b"ecx=0x" in body and b"(" not in body else fields
    if not (known.keys() & set(fields) if omits else set(wanted) <= known.keys()):
        return None
    numbers = [known.get(name, 0) for name in fields]
    if None in numbers:
        return None
    written_, at, held, *refused_ = (each or 0 for each in numbers)
    return Access(written_ == 1, at, held, any(refused_))


def _number(text: bytes, base: int) -> int | None:
    """Return a field's number of 64 bits; perf prints the upper half of them as negative."""
    try:
        found = int(text, 16 if b"x" in text else base)
    except ValueError:
        return None
    found += 1 << 64 if found < 0 else 0
    return found if 0 <= found < 1 << 64 else None


class Probe(NamedTuple):
    """What a kprobe of docs/capture.md says: KVM's function, and its arguments by name."""

    function: bytes
    returns: bool
    values: dict[bytes, int]
    caller: bytes


_PLACE = re.compile(rb"\((?P<at>[^\s()<]+)[^()<]*(?:<- (?P<from>\w+)[^)]*)?\)")
_ARGUMENT = re.compile(rb"(\w+)=(\S+)")
PROBES = {
    b"zap": b"kvm_zap_gfn_range",
    b"zapret": b"kvm_zap_gfn_range",
    b"mtrr": b"kvm_mtrr_set_msr",
    b"mtrrret": b"kvm_mtrr_set_msr",
    b"setmsr": b"kvm_set_msr_common",
    b"cr0": b"kvm_post_set_cr0",
    b"reset": b"kvm_vcpu_reset",
    b"sregs": b"kvm_arch_vcpu_ioctl_set_sregs",
    b"reg": b"kvm_arch_register_noncoherent_dma",
    b"unreg": b"kvm_arch_unregister_noncoherent_dma",
}
"""The names that docs/capture.md gives the probes. trace-cmd and perf print an address for the
function, so that the name is all there is; ftrace prints the function, and any name does."""


def probe(line: EventLine) -> Probe | None:
    """Read a kprobe; None if it is not one of these functions, or an argument is no number."""
    place = _PLACE.match(line.body)
    if place is None:
        return None
    function = place["from"] or place["at"].partition(b"+")[0]
    returns = b"<-" in place[0]
    if function not in PROBES.values():
        function = PROBES.get(line.event, b"")
    values: dict[bytes, int] = {}
    caller = b""
    for name, text in _ARGUMENT.findall(line.body, place.end()):
        if name == b"caller":
            caller = text.partition(b"+")[0]
            continue
        try:
            values[name] = int(text, 0)
        except ValueError:
            return None
    return Probe(function, returns, values, caller) if function else None


_SPTE = re.compile(rb"level (\d+) old_spte ([0-9a-f]+) new_spte 0\b")


def leaf_cleared(body: bytes) -> bool:
    """Tell if a kvm_tdp_mmu_spte_changed clears an entry that was there."""
    found = _SPTE.search(body)
    return found is not None and int(found[2], 16) != 0


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
