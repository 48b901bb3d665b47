"""What the KVM events print behind their name: the templates of arch/x86/kvm/trace.h, v6.1.

``trace-cmd report -R`` prints the same fields as ``name=value``.
"""

import re
from typing import NamedTuple

from mtrrzap.guest.importer.records import Shorthand

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
