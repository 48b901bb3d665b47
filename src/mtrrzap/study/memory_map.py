"""MTRRs by processor, from a trace at one of its events or from a listing."""

from pathlib import Path
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest import listing
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.study import kernel_map
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import MsrRefusedError, Mtrrs

LIMIT = 16 << 20
"""Bytes read of a listing; real ones have some kilobytes."""


class States(NamedTuple):
    """MTRRs by processor, and where they come from."""

    what: str
    cpus: dict[int, Mtrrs]
    notes: tuple[str, ...]
    kernel_map: listing.KernelMap | None = None
    """What Linux made of them; without ``cpus``, this is all that the source has."""

    def one(self, cpu: int | None, place: str) -> tuple[int, Mtrrs]:
        """Return one processor's MTRRs, the lowest one's if none is named."""
        if not self.cpus:
            raise UserError(
                "a kernel's MTRR map has no registers",
                place=place,
                mend="give a trace, an MSR dump or a boot log with mtrr=debug",
            )
        number = min(self.cpus) if cpu is None else cpu
        if number not in self.cpus:
            known = f"{min(self.cpus)} to {max(self.cpus)}"
            raise UserError(f"no vCPU {number}", place=place, mend=f"there are {known}")
        return number, self.cpus[number]


def load(source: Path, at: int | None = None, maxphyaddr: int | None = None) -> States:
    """Read a trace, a shipped recording or a listing of MTRRs.

    ``at`` is the event, from 0, after which a trace's state is taken; None: the last one.
    ``maxphyaddr`` is the guest's MAXPHYADDR in bits, where a listing does not say it.

    Raises:
        UserError: if the source is neither, cannot be read, or has no such event.
    """
    recording = not source.exists() and source.name == str(source)
    head = b"" if recording else _read(source, 16)
    if recording or traces.is_trace(head):
        return of_trace(traces.load(source), at)
    if at is not None:
        raise UserError("only a trace has events", place="at", mend="leave it out")
    data = _read(source, LIMIT + 1)
    if len(data) > LIMIT:
        raise UserError(
            f"more than {LIMIT >> 20} MiB", place=str(source), mend="cut out the lines about MTRRs"
        )
    found = listing.read(data.decode("utf-8", "replace"), str(source), maxphyaddr)
    return of_listing(found, str(source), maxphyaddr)


def _read(source: Path, size: int) -> bytes:
    try:
        with source.open("rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", place=str(source), mend="name a trace or a listing"
        ) from error


def of_trace(trace: Trace, at: int | None) -> States:
    """Return every vCPU's state after event ``at`` (from 0), after the last one if None."""
    last = len(trace.events) - 1 if at is None else at
    if not -1 <= last < len(trace.events):
        raise UserError(
            f"no event {at}", place="at", mend=f"the trace has {len(trace.events)}, from 0"
        )
    vcpus = [power_on(trace.header.maxphyaddr)] * trace.header.vcpus
    for event in trace.events[: last + 1]:
        vcpus[event.vcpu], _ = step(vcpus[event.vcpu], event)
    notes = []
    if last >= 0:
        notes.append(f"after event {last}: {format_event(trace.events[last])}")
    with_cd = [number for number, vcpu in enumerate(vcpus) if vcpu.cd]
    if with_cd:
        names = ", ".join(map(str, with_cd))
        notes.append(f"CR0.CD = 1 on vCPU {names}: whatever the MTRRs say, nothing is cached there")
    if trace.incomplete is not None:
        notes.append(f"the trace is INCOMPLETE: {trace.incomplete}")
    return States("trace", {n: vcpu.mtrrs for n, vcpu in enumerate(vcpus)}, tuple(notes))


def of_listing(found: listing.Listing, name: str, maxphyaddr: int | None) -> States:
    """Return the listed registers as MTRRs. Raises ``UserError`` for a value that none can hold."""
    width = maxphyaddr or found.maxphyaddr or 52
    notes = list(found.notes)
    if maxphyaddr is None and found.maxphyaddr is None and found.cpus:
        notes.append(f"no mask shows MAXPHYADDR: {width} bits are assumed")
    cpus: dict[int, Mtrrs] = {}
    missing: set[str] = set()
    for registers in found.cpus:
        mtrrs = Mtrrs(width)
        for msr, value in registers.values.items():
            if msr == m.MTRRCAP:
                continue
            try:
                mtrrs = mtrrs.write(msr, value)
            except MsrRefusedError as error:
                raise UserError(
                    f"{m.name(msr)} cannot hold {value:#x}: {error.rule}",
                    place=f"{name}:{registers.lines[msr]}",
                    mend="correct the value, or give the right MAXPHYADDR",
                ) from error
        cpus[registers.cpu] = mtrrs
        if m.DEF_TYPE not in registers.values:
            missing.add("DEF_TYPE (without it the MTRRs are off)")
        if mtrrs.fixed_enabled and not m.FIXED_INDEX.keys() <= registers.values.keys():
            missing.add("some fixed MTRRs")
    notes += [f"not listed, taken as 0: {what}" for what in sorted(missing)]
    if found.kernel_map is not None and cpus:
        said = kernel_map.against(cpus[min(cpus)], found.kernel_map)
        notes += [said] if said else []
    return States(found.what, cpus, tuple(notes), found.kernel_map)
