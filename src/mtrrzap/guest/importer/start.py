"""In which state the vCPUs are when a capture begins.

A trace begins in the RESET state. A capture may begin there too, or in the middle of a guest's
life. Taken wrongly, the first CR0 write is a toggle of CD that was none, or the other way round.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from mtrrzap.guest.importer.records import Record, What
from mtrrzap.guest.importer.threads import Vm
from mtrrzap.x86 import cr0 as cr0_rules
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import PAT_RESET


class Start(StrEnum):
    """Where a capture begins."""

    AUTO = "auto"
    POWER_ON = "power-on"
    RUNNING = "running"


class Verdict(NamedTuple):
    """Whether the capture shows the power-on, and by which sign."""

    power_on: bool
    why: str


def verdict(records: Sequence[Record], vm: Vm, *, start_lost: bool) -> Verdict:
    """Judge by a VM's first events. ``start_lost``: the oldest events of the capture are gone."""
    first = next((r for r in records if r.what not in (What.INIT, What.INIT_IPI)), None)
    if first is None:
        return Verdict(False, "nothing but INITs is in it")
    vcpu = vm.vcpu(first)
    if first.what is What.RESET:
        return Verdict(True, f"vCPU {vcpu} enters the guest at the reset vector")
    if first.what is What.READ_CR0 and first.value == cr0_rules.RESET:
        return Verdict(True, f"vCPU {vcpu} first reads CR0 as {first.value:#x}, as RESET leaves it")
    if start_lost:
        return Verdict(False, "its oldest events are gone")
    if (
        first.what is What.WRITE_CR0
        and vcpu == min(vm.vcpus.values())
        and not first.value & (cr0_rules.CD | cr0_rules.PG)
        and any(record.what is What.WRITE for record in records)
    ):
        why = f"vCPU {vcpu} begins with CR0 = {first.value:#x}, paging off, and sets up MTRRs later"
        return Verdict(True, f"{why} (a likely sign, no proof)")
    return Verdict(False, "its first event is none of firmware's")


class Model:
    """What the registers of one vCPU are known to hold; an MSR that is not known is absent."""

    def __init__(self, cr0: int, msrs: dict[int, int]) -> None:
        """Hold these."""
        self.cr0 = cr0
        self.msrs = msrs


def after_reset() -> Model:
    """Return the registers after power-on or RESET."""
    return Model(cr0_rules.RESET, dict.fromkeys(m.MTRR_MSRS, 0) | {m.PAT: PAT_RESET})


def running(records: Sequence[Record]) -> Model:
    """Return what one vCPU of a running guest held before its first record, as far as these tell.

    A read before any write of a register tells its value. A first CR0 write that sets CD found it
    clear; and where nothing is told, a running guest has its caches on.
    """
    cr0: int | None = None
    msrs: dict[int, int] = {}
    written: set[int] = set()
    for record in records:
        if record.what is What.WRITE:
            written.add(record.number)
        elif record.what is What.READ and record.number not in written:
            msrs.setdefault(record.number, record.value)
        elif record.what is What.READ_CR0 and cr0 is None:
            cr0 = record.value
        elif record.what is What.WRITE_CR0 and cr0 is None:
            cr0 = record.value & ~cr0_rules.CD_NW
    return Model(cr0_rules.ET | cr0_rules.PE if cr0 is None else cr0, msrs)
