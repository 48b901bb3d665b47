"""``memory_map``: the memory type of every address, and who decided it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mtrrzap.api.printed import Printed, Sheet
from mtrrzap.errors import UserError, expect
from mtrrzap.guest.listing import KernelMap
from mtrrzap.guest.trace import Trace
from mtrrzap.study import both_maps as judge
from mtrrzap.study import ept_types, kernel_map
from mtrrzap.study.ept_types import EptRow
from mtrrzap.study.memory_map import States, of_trace
from mtrrzap.study.memory_map import load as states_of
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

if TYPE_CHECKING:
    from rich.text import Text

_KERNEL_TOP = 1 << 52
"""Addresses of a kernel's own map, which does not say MAXPHYADDR."""


def memory_map(
    source: str | PathLike[str] | Trace,
    *,
    event: int | None = None,
    vcpu: int | None = None,
    maxphyaddr: int | None = None,
    form: str | None = None,
) -> MemoryMap:
    """Return the memory types that a processor's MTRRs give to physical addresses.

    Args:
        source: A listing of MTRRs (an MSR dump as text or JSON, ``/proc/mtrr``, a Linux boot log
            with ``mtrr=debug``), or a trace: a file, a shipped name, a ``Trace``.
        event: For a trace: the state after this event, from 0; None: after the last one.
        vcpu: Whose MTRRs; None: the lowest number.
        maxphyaddr: For a listing: MAXPHYADDR in bits, 32 to 52; None: as its masks tell.
        form: For a listing that could be read in several ways: which one; an error names them.

    Raises:
        UserError: if the source cannot be read, a value is one that no register can hold, or there
            is no such event or vCPU.

    Example:
        >>> import mtrrzap
        >>> place = mtrrzap.memory_map("ovmf-8").at(0xC000_0000)
        >>> str(place.type), place.deciders, place.architectural
        ('UC', ('PHYS0',), True)
        >>> print(place)
        0xc0000000: UC, decided by PHYS0; architectural
    """
    expect(source, str | PathLike | Trace, "source", "give a path, a shipped name or a Trace")
    expect(event, int | None, "event", "give a whole number, from 0")
    if maxphyaddr is not None and maxphyaddr not in range(32, 53):
        raise UserError(f"invalid MAXPHYADDR {maxphyaddr!r}", mend="use 32 to 52 bits")
    if isinstance(source, Trace):
        states = of_trace(source, event)
    else:
        states = states_of(Path(source), event, maxphyaddr, form)
    if states.kernel_map is not None and not states.cpus and vcpu is None:
        return KernelMemoryMap(states, states.kernel_map)
    return RegisterMap(states, *states.one(vcpu, "vcpu"))


class Place(NamedTuple):
    """A stretch ``[start, end)`` of physical addresses in bytes, and its memory type."""

    start: int
    end: int
    type: MemType | None
    """The manual's type; None where the manual defines none (or the kernel's map names none)."""
    kvm: MemType | None
    """The type that KVM 6.1 to 6.10 gives; None if the source has no registers."""
    deciders: tuple[str, ...]
    """The registers that decided the manual's type, as ``PHYS2`` or ``FIX4K_C0000[3]``."""
    kvm_deciders: tuple[str, ...] = ()
    """The registers that decided KVM's type."""
    meaning: str = ""
    """What an overlap or a difference means; empty where there is neither."""
    explanation: tuple[str, ...] = ()
    """Why each register that could matter does or does not; empty unless from ``at``."""

    @property
    def architectural(self) -> bool | None:
        """Whether the manual defines the type and KVM gives the same, or None if not known."""
        return None if self.kvm is None else self.type is self.kvm

    def __str__(self) -> str:
        by = " ".join(self.deciders)
        if self.kvm is None:
            return f"{self.start:#x}: {self._named('the default')}, by the kernel's map ({by})"
        if self.architectural:
            return f"{self.start:#x}: {self.type}, decided by {by}; architectural"
        return (
            f"{self.start:#x}: manual {self._named()}, KVM {self.kvm}, decided by {by}; "
            f"not architectural: {self.meaning}"
        )

    def _named(self, missing: str = "undefined") -> str:
        return missing if self.type is None else str(self.type)

    def to_dict(self) -> dict[str, Any]:
        """Return a row of the ``map`` that ``mtrrzap memtype --json`` prints."""
        if self.kvm is None:
            kind, decider = self._named("the default"), " ".join(self.deciders)
            return {"start": self.start, "end": self.end, "type": kind, "decider": decider}
        return {
            "start": self.start,
            "end": self.end,
            "sdm": self._named(),
            "kvm": str(self.kvm),
            "sdm_deciders": list(self.deciders),
            "kvm_deciders": list(self.kvm_deciders),
            "verdict": self.meaning,
        }


class MemoryMap(Printed):
    """The memory type of every address. Iterate over it for its stretches, ascending.

    A mask with holes can make millions of stretches; ``print`` and ``to_dict`` stop after 200.
    """

    source: str
    """The kind of source, as ``trace`` or ``MSR dump``."""
    notes: tuple[str, ...]
    """What the source lacks, and what was assumed."""
    vcpu: int | None = None
    """Whose MTRRs these are; None for a kernel's own map."""
    broken_rules: tuple[str, ...] = ()
    """Which of the manual's rules for variable ranges the registers break, in words."""
    vcpus_alike: tuple[tuple[int, ...], ...] = ()
    """The source's vCPUs, grouped by equal MTRRs; more than one group breaks a rule."""

    def __init__(self, states: States) -> None:
        self._states = states
        self.source = states.what
        self.notes = tuple(states.notes)

    def at(self, address: int) -> Place:
        """Return the type of an address, who decided it, and whether it is architectural.

        Args:
            address: A physical address in bytes, below 2^MAXPHYADDR.

        Raises:
            UserError: if it is none.
        """
        raise NotImplementedError

    def __iter__(self) -> Iterator[Place]:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return what ``mtrrzap memtype --json`` prints."""
        raise NotImplementedError

    def _checked(self, address: int, top: int) -> int:
        if not isinstance(address, int) or not 0 <= address < top:
            shown = f"{address:#x}" if isinstance(address, int) else repr(address)
            raise UserError(
                f"{shown} is not an address", mend=f"give an int from 0 to {top - 1:#x}"
            )
        return address

    def _remarks(self) -> Iterator[str]:
        yield from (f"note: {note}" for note in self.notes)


class RegisterMap(MemoryMap):
    """The map that MTRRs make, by the manual's rules and by KVM's."""

    def __init__(
        self, states: States, vcpu: int, mtrrs: Mtrrs, rules: Literal["sdm", "kvm", "both"] = "both"
    ) -> None:
        super().__init__(states)
        self._vcpu, self._rules = vcpu, rules
        self.processor = states.processor
        """For which kind of processor the map is, in words."""
        self.vcpu = vcpu
        self.mtrrs = mtrrs
        """The registers."""
        self.broken_rules = tuple(judge.broken_rules(mtrrs))
        self.vcpus_alike = tuple(judge.disagreeing(states.cpus))

    def at(self, address: int) -> Place:
        """Return the type of the 4-KiB page of an address; see ``MemoryMap.at``."""
        value = self._checked(address, 1 << self.mtrrs.maxphyaddr)
        why = tuple(judge.explain(self.mtrrs, value))
        return _place(judge.at(self.mtrrs, value))._replace(explanation=why)

    def __iter__(self) -> Iterator[Place]:
        return map(_place, judge.map_rows(self.mtrrs))

    def ept(self) -> tuple[EptRow, ...]:
        """Return the type of new EPT entries, by kernel version, configuration and range.

        ``effective()`` of a row combines it with each type of the guest's PAT.

        Example:
            >>> import mtrrzap
            >>> row = mtrrzap.memory_map("ovmf-8").ept()[0]
            >>> row.kernel, row.case, str(row.ept)
            ('v4.2 to v6.6', 'coherent DMA', 'WB+IPAT')
        """
        return tuple(ept_types.rows(self.mtrrs))

    def __repr__(self) -> str:
        return f"<RegisterMap of vCPU {self.vcpu}, {self.source}, {self.mtrrs.maxphyaddr} bits>"

    def to_dict(self) -> dict[str, Any]:
        """Return what ``mtrrzap memtype --json`` prints."""
        from mtrrzap.report import map_views

        return map_views.as_dict(self._states, self._vcpu)

    def _sheets(self) -> Iterator[Sheet]:
        wanted = {"sdm": (0, 1, 2, 4), "kvm": (0, 1, 3, 4), "both": range(6)}[self._rules]
        columns = ("start", "end", "manual", "KVM", "decided by", "meaning")
        yield Sheet(
            [columns[n] for n in wanted],
            [[self._cells(row)[n] for n in wanted] for row in judge.table(self.mtrrs)[0]],
            f"vCPU {self.vcpu}, {self.source}: memory types (bytes, end exclusive)",
            droppable=("meaning", "decided by"),
        )

    def _cells(self, row: judge.MapRow) -> tuple[object, ...]:
        from mtrrzap.report.map_views import bounds, named

        decided = row.kvm_deciders if self._rules == "kvm" else row.sdm_deciders
        by = (" .. " if decided[0].startswith("FIX") else " ").join(decided)
        if self._rules == "both" and row.kvm_deciders != row.sdm_deciders:
            by += f" (KVM: {' '.join(row.kvm_deciders)})"
        return *bounds(row.start, row.end), named(row.sdm), row.kvm, by, row.verdict

    def _drawings(self) -> Iterator[Text]:
        from rich.text import Text

        from mtrrzap.report.map_views import LEGEND, strip

        found, whole = judge.table(self.mtrrs)
        if not whole:
            yield Text(f"... and more: only the first {judge.MAX_ROWS} rows are shown.")
        if self._rules != "kvm":
            yield strip([row[:3] for row in found], "manual")
        if self._rules != "sdm":
            yield strip([(row.start, row.end, row.kvm) for row in found], "KVM")
        yield Text(LEGEND)

    def _remarks(self) -> Iterator[str]:
        from mtrrzap.report import text

        yield f"for {self.processor}"
        yield from super()._remarks()
        for rule in self.broken_rules:
            yield f"vCPU {self.vcpu} breaks a rule of the manual: {rule}"
        if len(self.vcpus_alike) > 1:
            listed = "; ".join(map(text.numbers, self.vcpus_alike))
            yield f"The vCPUs' MTRRs DIFFER, which breaks a rule of the manual: {listed}."
        elif len(self._states.cpus) > 1:
            yield f"All {len(self._states.cpus)} vCPUs have the same MTRRs."


class KernelMemoryMap(MemoryMap):
    """The map that Linux made of its MTRRs, from a boot log that lists no registers."""

    def __init__(self, states: States, found: KernelMap) -> None:
        super().__init__(states)
        self._map = found

    def at(self, address: int) -> Place:
        """Return the stretch of an address; see ``MemoryMap.at``."""
        return _listed(kernel_map.at(self._map, self._checked(address, _KERNEL_TOP)))

    def __iter__(self) -> Iterator[Place]:
        return map(_listed, kernel_map.rows(self._map))

    def __repr__(self) -> str:
        return f"<KernelMemoryMap of {self.source}>"

    def to_dict(self) -> dict[str, Any]:
        """Return what ``mtrrzap memtype --json`` prints."""
        from mtrrzap.report import map_views

        return map_views.kernel_map_as_dict(self._states, self._map)

    def _sheets(self) -> Iterator[Sheet]:
        from mtrrzap.report.map_views import bounds, named_by_kernel

        rows = [
            (*bounds(row.start, row.end), named_by_kernel(row), row.decider)
            for row in islice(kernel_map.rows(self._map), judge.MAX_ROWS)
        ]
        title = f"{self.source}: memory types (bytes, end exclusive)"
        yield Sheet(("start", "end", "type", "decided by"), rows, title)

    def _drawings(self) -> Iterator[Text]:
        from rich.text import Text

        from mtrrzap.report.map_views import LEGEND, strip

        yield strip([row[:3] for row in kernel_map.rows(self._map)], "kernel")
        yield Text(LEGEND.replace("?: undefined", "?: the default type"))


def _place(row: judge.MapRow) -> Place:
    return Place(*row, meaning=row.verdict)


def _listed(row: kernel_map.KernelRow) -> Place:
    return Place(row.start, row.end, row.type, None, (row.decider,))
