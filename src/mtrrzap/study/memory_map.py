"""MTRRs by processor, from a trace at one of its events or from a listing."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from mtrrzap.errors import UserError
from mtrrzap.guest import listing
from mtrrzap.guest import open as traces
from mtrrzap.guest.trace import Trace, format_event
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.study import host_registers, kernel_map
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import MsrRefusedError, Mtrrs

TRACE = "trace"
"""What ``States.what`` says of a trace."""
LIMIT = 16 << 20
"""Bytes read of a listing; real ones have some kilobytes."""


class States(NamedTuple):
    """MTRRs by processor, and where they come from."""

    what: str
    cpus: dict[int, Mtrrs]
    notes: tuple[str, ...]
    kernel_map: listing.KernelMap | None = None
    """What Linux made of them; without ``cpus``, this is all that the source has."""
    processor: str = "a KVM guest's vCPU"
    """For which kind of processor the map is."""

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


def load(
    source: Path, at: int | None = None, maxphyaddr: int | None = None, form: str | None = None
) -> States:
    """Read a trace, a shipped recording or a listing of MTRRs.

    ``at`` is the event, from 0, after which a trace's state is taken; None: the last one.
    ``maxphyaddr`` is the guest's MAXPHYADDR in bits, where a listing does not say it. ``form`` is
    one of ``listing.FORMATS``, where a listing could be read in several ways.

    Raises:
        UserError: if the source is neither, cannot be read, or has no such event.
    """
    if not source.exists() and source.name == str(source):
        return of_trace(traces.load(source), at)
    with _opened(source) as stream:
        if traces.is_trace(stream.peek(16)[:16]):
            return of_trace(traces.read(stream, str(source)), at)
        if at is not None:
            raise UserError("only a trace has events", place="at", mend="leave it out")
        found = listing.read(_text(stream, source), str(source), maxphyaddr, form)
    return of_listing(found, str(source), maxphyaddr)


def text_of(source: Path) -> str:
    """Return a listing's text. Raises ``UserError`` if it cannot be read or is too long."""
    with _opened(source) as stream:
        return listing.plain(_text(stream, source))


def _text(stream: BufferedReader, source: Path) -> str:
    data = stream.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise UserError(
            f"more than {LIMIT >> 20} MiB", place=str(source), mend="cut out the lines about MTRRs"
        )
    return listing.decoded(data)


@contextmanager
def _opened(source: Path) -> Iterator[BufferedReader]:
    try:
        with source.open("rb") as stream:
            yield stream
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", place=str(source), mend="name a trace or a listing"
        ) from error


def of_trace(trace: Trace, at: int | None) -> States:
    """Return every vCPU's state after event ``at`` (from 0), after the last one if None."""
    last = len(trace.events) - 1 if at is None else at
    if at is not None and not 0 <= at < len(trace.events):
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
    return States(TRACE, {n: vcpu.mtrrs for n, vcpu in enumerate(vcpus)}, tuple(notes))


def of_listing(found: listing.Listing, name: str, maxphyaddr: int | None) -> States:
    """Return the listed registers as MTRRs. Raises ``UserError`` for a value that none can hold."""
    width = maxphyaddr or found.maxphyaddr or 52
    notes = list(found.notes)
    if maxphyaddr is None and found.maxphyaddr is None and found.cpus:
        notes.append(f"no mask shows MAXPHYADDR: {width} bits are assumed")
    vcnt = _vcnt(found, notes)
    cpus = {listed.cpu: _mtrrs(listed, name, width, vcnt) for listed in found.cpus}
    if found.tom2:
        cpus = {cpu: mtrrs._replace(tom2=found.tom2) for cpu, mtrrs in cpus.items()}
    notes += [f"not listed, taken as 0: {what}" for what in sorted(_missing(found, cpus))]
    if found.cpus:
        notes += host_registers.notes(found.cpus[0].values)
    if found.kernel_map is not None and cpus:
        said = kernel_map.against(cpus[min(cpus)], found.kernel_map)
        notes += [said] if said else []
    of = host_registers.processor(found, vcnt)
    return States(found.what, cpus, tuple(dict.fromkeys(notes)), found.kernel_map, of)


def _vcnt(found: listing.Listing, notes: list[str]) -> int:
    """Return how many variable ranges there are: as IA32_MTRRCAP says, or as many as are listed."""
    indices = [m.variable_index(msr) for listed in found.cpus for msr in listed.values]
    highest = max((index + 1 for index in indices if index is not None), default=0)
    says = [listed.values[m.MTRRCAP] & 0xFF for listed in found.cpus if m.MTRRCAP in listed.values]
    if says and max(says) < highest:
        notes.append(f"IA32_MTRRCAP says {max(says)} variable ranges, but {highest} are listed")
    return max(highest, *says) if says else max(highest, m.VCNT)


def _missing(found: listing.Listing, cpus: dict[int, Mtrrs]) -> set[str]:
    missing = set()
    for listed in found.cpus:
        if m.DEF_TYPE not in listed.values:
            missing.add("DEF_TYPE (without it the MTRRs are off)")
        fixed = cpus[listed.cpu].fixed_enabled and not found.unlisted
        if fixed and not m.FIXED_INDEX.keys() <= listed.values.keys():
            missing.add("some fixed MTRRs")
    return missing


def _mtrrs(listed: listing.ListedRegisters, name: str, width: int, vcnt: int) -> Mtrrs:
    mtrrs = Mtrrs(width, bases=(0,) * vcnt, masks=(None,) * vcnt)
    for msr, value in listed.values.items():
        if msr == m.MTRRCAP or msr in m.OTHERS:
            continue
        held = host_registers.without_dram_bits(value) if msr in m.FIXED_INDEX else value
        try:
            mtrrs = mtrrs.write(msr, held)
        except MsrRefusedError as error:
            raise UserError(
                f"{m.name(msr)} cannot hold {value:#x}: {error.rule}",
                place=f"{name}:{listed.lines[msr]}",
                mend="correct the value, or give the right MAXPHYADDR",
            ) from error
    return mtrrs._replace(tom2=host_registers.tom2(listed.values))
