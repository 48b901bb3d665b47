"""One vCPU as far as zaps depend on it: its MTRRs and CR0, and what an event makes of them.

RESET and INIT follow the architecture and KVM since "KVM: x86: Preserve guest's CR0.CD/NW on INIT"
(v5.16): INIT keeps CD and NW, whatever the emulator that made the recording did.
"""

from typing import NamedTuple

from mtrrzap.guest.event import Event, Kind
from mtrrzap.x86 import cr0 as cr0_rules
from mtrrzap.x86.mtrr import MsrRefusedError, Mtrrs


class Vcpu(NamedTuple):
    """An immutable state; ``power_on`` makes the first one, ``step`` each next one."""

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


def step(before: Vcpu, event: Event) -> tuple[Vcpu, str | None]:
    """Return the vCPU after an event, and the rule by which KVM refuses it, or None.

    A refused event changes nothing and zaps nothing. A trace may have such events without the mark
    ``refused``: QEMU's TCG checks fewer rules than KVM.
    """
    if event.refused:
        return before, "the recorded guest got #GP"
    match event.kind:
        case Kind.WRMSR | Kind.HOST_WRMSR | Kind.HELD_MSR:
            try:
                return Vcpu(before.mtrrs.write(event.msr, event.value), before.cr0), None
            except MsrRefusedError as error:
                return before, error.rule
        case Kind.CR0 | Kind.HELD_CR0:
            rule = cr0_rules.broken_rule(event.value)
            return (before, rule) if rule else (Vcpu(before.mtrrs, event.value), None)
        case Kind.INIT:
            return Vcpu(before.mtrrs, cr0_rules.after_init(before.cr0)), None
        case Kind.RESET:
            return power_on(before.mtrrs.maxphyaddr), None
