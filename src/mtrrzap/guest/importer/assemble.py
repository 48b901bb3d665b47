"""Turn one VM's records into the events of a trace.

A trace begins in the RESET state. A capture may begin there too, or while the guest is running. If
the import takes one for the other, the first CR0 write becomes a toggle of CD that never happened,
or a real toggle is lost.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.importer.event_text import Shorthand
from mtrrzap.guest.importer.records import CapturedVm, Record, Seen, What, ZapRecord
from mtrrzap.guest.measured_costs import Cost
from mtrrzap.guest.measured_zaps import Dma, KernelZap, KernelZaps
from mtrrzap.x86 import cr0 as cr0_rules
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import PAT_RESET


class Start(StrEnum):
    """Where a capture begins."""

    AUTO = "auto"
    POWER_ON = "power-on"
    RUNNING = "running"


class StartVerdict(NamedTuple):
    """Whether the capture shows the power-on, and by which sign."""

    power_on: bool
    why: str


def verdict(records: Sequence[Record], vm: CapturedVm, *, start_lost: bool) -> StartVerdict:
    """Judge by a VM's first events. ``start_lost``: the oldest events of the capture are gone."""
    no_sign = (What.INIT, What.INIT_IPI, What.DMA, What.ZAP)
    first = next((r for r in records if r.what not in no_sign), None)
    if first is None:
        return StartVerdict(False, "nothing but INITs is in it")
    vcpu = vm.vcpu(first)
    if first.what is What.CREATED:
        return StartVerdict(True, f"vCPU {vcpu} is created in it")
    if first.what is What.RESET:
        return StartVerdict(True, f"vCPU {vcpu} enters the guest at the reset vector")
    if first.what is What.READ_CR0 and first.value == cr0_rules.RESET:
        return StartVerdict(
            True, f"vCPU {vcpu} first reads CR0 as {first.value:#x}, as RESET leaves it"
        )
    if start_lost:
        return StartVerdict(False, "its oldest events are gone")
    caches_off = first.value & cr0_rules.CD_NW
    if (
        first.what is What.WRITE_CR0
        and vcpu == min(vm.vcpus.values())
        # SeaBIOS clears CD in its first write, OVMF sets PE and leaves CD set.
        and caches_off in (0, cr0_rules.CD)
        and not first.value & cr0_rules.PG
        and any(record.what is What.WRITE for record in records)
    ):
        why = f"vCPU {vcpu} begins with CR0 = {first.value:#x}, paging off, and sets up MTRRs later"
        return StartVerdict(True, f"{why} (a likely sign, no proof)")
    return StartVerdict(False, "its first event is not one of firmware's")


@dataclass(slots=True)
class KnownRegisters:
    """What the registers of one vCPU are known to hold; an MSR that is not known is absent."""

    cr0: int
    msrs: dict[int, int]


def after_reset() -> KnownRegisters:
    """Return the registers after power-on or RESET."""
    return KnownRegisters(cr0_rules.RESET, dict.fromkeys(m.MTRR_MSRS, 0) | {m.PAT: PAT_RESET})


def running(records: Sequence[Record]) -> KnownRegisters:
    """Return what the registers of a running vCPU held before its first record, as far as known.

    A read before any write of a register shows its value. A first CR0 write that sets CD found it
    clear. Where nothing shows it, the caches of a running guest are assumed to be on.
    """
    cr0: int | None = None
    msrs: dict[int, int] = {}
    written: set[int] = set()
    for record in records:
        if record.what in (What.WRITE, What.HOST_WRITE):
            written.add(record.number)
        elif record.what is What.READ and record.number not in written:
            msrs.setdefault(record.number, record.value)
        elif record.what in (What.READ_CR0, What.SREGS) and cr0 is None:
            cr0 = record.value
        elif record.what is What.WRITE_CR0 and cr0 is None:
            cr0 = record.value & ~cr0_rules.CD_NW
    return KnownRegisters(cr0_rules.ET | cr0_rules.PE if cr0 is None else cr0, msrs)


@dataclass(slots=True)
class Assembled:
    """The events of one VM, and what was found out on the way."""

    start: StartVerdict
    events: list[Event] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    foreign_inits: int = 0
    """INITs to APICs without a vCPU thread in the capture."""
    resets: int = 0
    """Machine resets after the start."""
    surprises: int = 0
    """Reads of values that nobody was seen to write."""
    inits_probed: bool = False
    """INITs are those of kvm_vcpu_reset, which names the vCPU."""
    refused_host_writes: int = 0
    """KVM_SET_MSRS of a value that KVM refused; they are no events."""
    zaps: KernelZaps | None = None


def ordered(seen: Seen, vm: CapturedVm) -> list[Record]:
    """Return a VM's records by time; within one thread the order is always the capture's."""
    mine = [record for record in seen.records if vm.has(record)]
    if not seen.counted_time:
        return mine
    latest: dict[int, int] = {}
    keys = []
    for record in mine:
        latest[record.tid] = max(latest.get(record.tid, 0), record.time_ns or 0)
        keys.append(latest[record.tid])
    order = sorted(range(len(mine)), key=keys.__getitem__)
    return [mine[position] for position in order]


class _Assembly:
    """Go through the records once, with a model of every vCPU."""

    def __init__(self, seen: Seen, vm: CapturedVm, start: Start) -> None:
        self._vm = vm
        self._records = ordered(seen, vm)
        found = verdict(self._records, vm, start_lost=seen.start_lost)
        if start is not Start.AUTO:
            found = StartVerdict(start is Start.POWER_ON, "as the user says")
        self.made = Assembled(found)
        times = [r.time_ns for r in self._records if r.time_ns is not None]
        self._origin = min(times) if seen.counted_time and times else None
        self._accepted = any(record.what is What.INIT for record in self._records)
        self.made.inits_probed = any(r.what is What.INIT and r.probed for r in self._records)
        self._sregs_probed = b"kvm_arch_vcpu_ioctl_set_sregs" in seen.probes
        self._zaps_told = b"kvm_zap_gfn_range" in seen.probes
        self._leaves_told = seen.leaves_told
        self._models: list[KnownRegisters] = []
        self._event_of: dict[int, int] = {}
        """Record (by identity) -> position of its event."""
        self._zaps: list[ZapRecord] = []
        self._dma: list[Dma] = []
        self._devices = 0
        self._touched: set[int] = set()
        """vCPUs with other events than RESET."""
        self._handlers: dict[What, Callable[[Record, int], None]] = {
            What.WRITE: self._write,
            What.HOST_WRITE: self._host_write,
            What.READ: self._read,
            What.WRITE_CR0: self._cr0,
            What.READ_CR0: self._cr0,
            What.INIT: self._init,
            What.INIT_IPI: self._init,
            What.RESET: self._reset_seen,
            What.CREATED: self._created,
            What.SREGS: self._sregs,
            What.DMA: self._device,
            What.ZAP: self._zap,
        }

    def run(self) -> Assembled:
        self._begin()
        events, vcpu = self.made.events, self._vm.vcpu
        for record in self._records:
            position = len(events)
            self._handlers[record.what](record, vcpu(record))
            if self._zaps_told and len(events) > position:
                self._event_of[id(record)] = position
        if self._zaps_told:
            self.made.zaps = KernelZaps(tuple(map(self._call, self._zaps)), tuple(self._dma))
        return self.made

    def _call(self, zap: ZapRecord) -> KernelZap:
        """Return a zap with the event that asked for it, if it has one."""
        cause = zap.cause
        event = None if cause is None else self._event_of.get(id(cause))
        return KernelZap(
            event,
            self._vm.vcpus.get(zap.tid) if cause is None else self._vm.vcpu(cause),
            Range(zap.number, zap.value),
            zap.cost_ns,
            zap.leaves if self._leaves_told else None,
            zap.caller.decode("ascii", "replace"),
        )

    def _emit(
        self, vcpu: int, kind: Kind, record: Record | None, msr: int = 0, value: int = 0
    ) -> None:
        time: int | None = None
        if self._origin is not None:
            stamp = record.time_ns if record is not None else None
            time = 0 if stamp is None else stamp - self._origin
        if kind is not Kind.RESET:
            self._touched.add(vcpu)
        refused = record is not None and record.refused and kind is Kind.WRMSR
        self.made.events.append(Event(vcpu, kind, msr, value, refused, time))

    def _begin(self) -> None:
        if self.made.start.power_on:
            self._reset(None)
            return
        mine: list[list[Record]] = [[] for _ in range(self._vm.size)]
        for record in self._records:
            mine[self._vm.vcpu(record)].append(record)
        self._models = [running(records) for records in mine]
        for vcpu, model in enumerate(self._models):
            self._emit(vcpu, Kind.HELD_CR0, None, value=model.cr0)
            for msr, value in model.msrs.items():
                self._emit(vcpu, Kind.HELD_MSR, None, msr, value)

    def _reset(self, record: Record | None) -> None:
        self._models = [after_reset() for _ in range(self._vm.size)]
        for vcpu in range(self._vm.size):
            self._emit(vcpu, Kind.RESET, record)

    def _reset_seen(self, record: Record, _: int) -> None:
        if not self._sregs_probed:
            self._machine_reset(record)

    def _zap(self, record: Record, _: int) -> None:
        assert isinstance(record, ZapRecord)
        self._zaps.append(record)

    def _created(self, record: Record, vcpu: int) -> None:
        """Reset one vCPU, unless it has been in that state since the start."""
        if vcpu in self._touched:
            self._models[vcpu] = after_reset()
            self._emit(vcpu, Kind.RESET, record)

    def _sregs(self, record: Record, vcpu: int) -> None:
        model = self._models[vcpu]
        if (model.cr0 ^ record.value) & cr0_rules.CD_NW:
            model.cr0 = record.value
            self._emit(vcpu, Kind.HELD_CR0, record, value=record.value)

    def _device(self, record: Record, _: int) -> None:
        before = self._devices
        self._devices += 1 if record.number else -1
        if (before > 0) != (self._devices > 0):
            self._dma.append(Dma(len(self.made.events), self._devices > 0))

    def _write(self, record: Record, vcpu: int) -> None:
        if record.cost_ns is not None:
            self.made.costs.append(
                Cost(len(self.made.events), vcpu, record.number, record.value, record.cost_ns)
            )
        self._emit(vcpu, Kind.WRMSR, record, record.number, record.value)
        if not record.refused:
            self._models[vcpu].msrs[record.number] = record.value

    def _host_write(self, record: Record, vcpu: int) -> None:
        if record.refused:
            self.made.refused_host_writes += 1
            return
        self._emit(vcpu, Kind.HOST_WRMSR, record, record.number, record.value)
        self._models[vcpu].msrs[record.number] = record.value

    def _read(self, record: Record, vcpu: int) -> None:
        msrs = self._models[vcpu].msrs
        if msrs.get(record.number) != record.value:
            self.made.surprises += 1
            msrs[record.number] = record.value
            self._emit(vcpu, Kind.HELD_MSR, record, record.number, record.value)

    def _cr0(self, record: Record, vcpu: int) -> None:
        model = self._models[vcpu]
        if not (model.cr0 ^ record.value) & cr0_rules.CD_NW:
            return
        if record.what is What.WRITE_CR0:
            self._emit(vcpu, Kind.CR0, record, value=record.value)
            if cr0_rules.broken_rule(record.value) is None:
                model.cr0 = record.value
        elif record.value == cr0_rules.RESET and not self._sregs_probed:
            self._machine_reset(record)
        else:
            self.made.surprises += 1
            model.cr0 = record.value
            self._emit(vcpu, Kind.HELD_CR0, record, value=record.value)

    def _machine_reset(self, record: Record) -> None:
        """User space resets all vCPUs together, through ioctls that leave no event."""
        if self.made.events and self.made.events[-1].kind is not Kind.RESET:
            self.made.resets += 1
            self._reset(record)

    def _init(self, record: Record, sender: int) -> None:
        if self.made.inits_probed and not record.probed:
            return
        if record.what is What.INIT:
            targets = [record.number]
        elif self._accepted:
            return
        else:
            targets = list(self._targets(record, sender))
        for target in targets:
            if target in self._present:
                self._emit(target, Kind.INIT, record)
            else:
                self.made.foreign_inits += 1

    @property
    def _present(self) -> Sequence[int]:
        return range(self._vm.size)

    def _targets(self, record: Record, sender: int) -> Iterator[int]:
        if record.value == Shorthand.DST:
            yield record.number
        elif record.value == Shorthand.SELF:
            yield sender
        else:
            for vcpu in self._present:
                if record.value == Shorthand.ALL or vcpu != sender:
                    yield vcpu


def assemble(seen: Seen, vm: CapturedVm, start: Start = Start.AUTO) -> Assembled:
    """Return the events of one VM of a capture."""
    return _Assembly(seen, vm, start).run()
