"""One vCPU as far as zaps depend on it: its MTRRs and CR0, and what an event makes of them.

RESET and INIT follow the architecture and KVM since "KVM: x86: Preserve guest's CR0.CD/NW on INIT"
(v5.16): INIT keeps CD and NW, whatever the emulator that made the recording did.
"""

from dataclasses import dataclass, replace

from mtrrzap.guest.event import Event, Kind
from mtrrzap.x86 import cr0 as cr0_rules
from mtrrzap.x86.mtrr import MsrRefusedError, Mtrrs


@dataclass(frozen=True, slots=True)
class Vcpu:
    """An immutable state; ``power_on`` makes the first one, ``apply`` each next one."""

    mtrrs: Mtrrs
    cr0: int

    @property
    def cd(self) -> bool:
        """CR0.CD: caching is disabled; the MTRRs do not matter."""
        return bool(self.cr0 & cr0_rules.CD)

    @property
    def updating(self) -> bool:
        """Inside an update window: CD = 1, or the MTRRs are disabled."""
        return self.cd or not self.mtrrs.enabled


def power_on(maxphyaddr: int) -> Vcpu:
    """Return a vCPU after RESET, with a guest MAXPHYADDR in bits."""
    return Vcpu(Mtrrs(maxphyaddr), cr0_rules.RESET)


def refusal(before: Vcpu, event: Event) -> str | None:
    """Return why KVM refuses this event, or None. A refused event changes nothing and zaps nothing.

    A trace may hold such events without the mark ``refused``: QEMU's TCG checks fewer rules.
    """
    if event.refused:
        return "the recorded guest got #GP"
    if event.kind is Kind.CR0:
        return cr0_rules.broken_rule(event.value)
    if event.kind in (Kind.WRMSR, Kind.HOST_WRMSR):
        try:
            before.mtrrs.write(event.msr, event.value)
        except MsrRefusedError as error:
            return error.rule
    return None


def apply(before: Vcpu, event: Event) -> Vcpu:
    """Return the vCPU after an event that KVM does not refuse."""
    match event.kind:
        case Kind.WRMSR | Kind.HOST_WRMSR:
            return replace(before, mtrrs=before.mtrrs.write(event.msr, event.value))
        case Kind.CR0:
            return replace(before, cr0=event.value)
        case Kind.INIT:
            return replace(before, cr0=cr0_rules.after_init(before.cr0))
        case Kind.RESET:
            return power_on(before.mtrrs.maxphyaddr)
