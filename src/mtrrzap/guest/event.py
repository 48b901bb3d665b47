"""The events of a trace: everything a policy can react to, in the order in which it happened."""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What happened. The values are the words of the trace format."""

    WRMSR = "wrmsr"
    """The guest executed WRMSR to an MTRR or to IA32_PAT."""
    HOST_WRMSR = "host-wrmsr"
    """User space wrote the MSR (KVM_SET_MSRS); the guest did not run."""
    CR0 = "cr0"
    """The guest wrote CR0 (MOV to CR0) with a new value of CD or NW."""
    RESET = "reset"
    """Power-on or machine reset: CR0.CD = CR0.NW = 1, MTRRs disabled."""
    INIT = "init"
    """INIT: CR0.CD, CR0.NW, the MTRRs and IA32_PAT are preserved."""
    HELD_CR0 = "held-cr0"
    """CR0 has this value, but no write was seen; nothing zaps for it."""
    HELD_MSR = "held-msr"
    """An MTRR or IA32_PAT has this value, but no write was seen; nothing zaps for it."""


class Event(NamedTuple):
    """One event on one vCPU.

    ``msr`` and ``value`` are the MSR number and the 64-bit value of ``wrmsr``, ``host-wrmsr`` and
    ``held-msr``. For ``cr0`` the value is all of CR0 as the guest wrote it, for ``held-cr0`` as it
    was, and ``msr`` is 0. ``refused`` marks a WRMSR that ended in #GP. ``time_ns`` is nanoseconds
    since the start of the recording, or None where the recorder has no meaningful clock.
    """

    vcpu: int
    kind: Kind
    msr: int = 0
    value: int = 0
    refused: bool = False
    time_ns: int | None = None
