"""Judge memory maps: who decided a type, what overlaps mean, which of the manual's rules break."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from mtrrzap.kvm import lookup as kvm
from mtrrzap.x86 import msr as m
from mtrrzap.x86 import pat, physmap
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs
from mtrrzap.x86.physmap import MapSegment

MAX_ROWS = 200
"""Rows shown of one map; a mask with holes can make millions."""
_PAGE = 0xFFF


class Row(NamedTuple):
    """A stretch of the physical map in bytes, end exclusive, by the manual and by KVM."""

    start: int
    end: int
    sdm: MemType | None
    """None where the manual defines no type."""
    kvm: MemType
    sdm_deciders: tuple[str, ...]
    kvm_deciders: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What an overlap or a difference means; empty where there is neither."""
        return _verdict(self)


def _verdict(row: Row) -> str:
    overlap = any(sum(name.startswith("PHYS") for name in deciders) > 1 for deciders in row[4:])
    if row.sdm is None:
        return f"overlap, undefined by the manual; KVM takes {row.kvm}"
    other = set(row.sdm_deciders) != set(row.kvm_deciders)
    if row.sdm is not row.kvm:
        if other:
            return f"KVM-specific: a base or mask that KVM reads otherwise gives {row.kvm}"
        return f"overlap, KVM-specific: the order of KVM's list gives {row.kvm}"
    if not overlap:
        return ""
    if other:
        return "overlap in one reading only; the type is the same"
    return f"overlap, architectural: {row.sdm} wins"


def rows(mtrrs: Mtrrs) -> Iterator[Row]:
    """Yield the map by both lookups, ascending; neighbours differ in something."""
    left_side, right_side = physmap.physical_map(mtrrs), kvm.physical_map(mtrrs)
    left: MapSegment | None = next(left_side, None)
    right: MapSegment | None = next(right_side, None)
    start = 0
    while left is not None and right is not None:
        end = min(left.end, right.end)
        assert right.type is not None, "KVM always has an answer"
        yield Row(start, end, left.type, right.type, left.deciders, right.deciders)
        start = end
        if left.end == end:
            left = next(left_side, None)
        if right.end == end:
            right = next(right_side, None)


def merged(source: Iterable[Row]) -> Iterator[Row]:
    """Join fixed sub-ranges of the same type: 88 rows of them say nothing."""
    pending: Row | None = None
    for row in source:
        if pending is not None and pending[2:4] == row[2:4] and _fixed(pending) and _fixed(row):
            pending = pending._replace(
                end=row.end,
                sdm_deciders=_joined(pending.sdm_deciders, row.sdm_deciders),
                kvm_deciders=_joined(pending.kvm_deciders, row.kvm_deciders),
            )
            continue
        if pending is not None:
            yield pending
        pending = row
    if pending is not None:
        yield pending


def _fixed(row: Row) -> bool:
    return all(name.startswith("FIX") for name in row.sdm_deciders)


def _joined(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Return a span of deciders as its first and last one."""
    both = first + second
    return both[0], both[-1]


def table(mtrrs: Mtrrs) -> tuple[list[Row], bool]:
    """Return at most ``MAX_ROWS`` merged rows, and whether that is all."""
    found = list(islice(merged(rows(mtrrs)), MAX_ROWS + 1))
    return found[:MAX_ROWS], len(found) <= MAX_ROWS


def at(mtrrs: Mtrrs, address: int) -> Row:
    """Return the row of one 4-KiB page, as ``rows`` would have it."""
    page = address & ~_PAGE
    sdm = physmap.lookup(mtrrs, page)
    by_kvm = kvm.lookup(mtrrs, page)
    return Row(page, page + _PAGE + 1, sdm.type, by_kvm, sdm.deciders, _kvm_deciders(mtrrs, page))


def _kvm_deciders(mtrrs: Mtrrs, page: int) -> tuple[str, ...]:
    if not mtrrs.enabled:
        return ("E=0",)
    if page < m.FIXED_END and mtrrs.fixed_enabled:
        return (physmap.fixed_decider(page)[2],)
    hits = [f"PHYS{r.number}" for r in kvm.variable_ranges(mtrrs) if r.start <= page < r.end]
    return tuple(hits) or ("default",)


def explain(mtrrs: Mtrrs, address: int) -> list[str]:
    """Say for every register that could matter at an address why it does or does not."""
    page = address & ~_PAGE
    if not mtrrs.enabled:
        return ["DEF_TYPE.E = 0: the MTRRs are off, all of memory is UC"]
    found = []
    if page < m.FIXED_END:
        position, byte, name = physmap.fixed_decider(page)
        kind = mtrrs.fixed[position] >> 8 * byte & 0xFF
        if mtrrs.fixed_enabled:
            return [f"{name} = {MemType(kind)}: below 1 MiB and FE = 1, no variable range counts"]
        found.append(f"{name} does not count: FE = 0")
    bounds = {r.number: r for r in kvm.variable_ranges(mtrrs)}
    for index, r in sorted(bounds.items()):
        sdm = "matches" if physmap.matches(mtrrs, index, page) else "does not"
        by_kvm = "inside" if r.start <= page < r.end else "outside"
        found.append(
            f"PHYS{index} {r.type}: the manual {sdm}; KVM, [{r.start:#x}, {r.end:#x}): {by_kvm}"
        )
    found.append(f"the default type is {mtrrs.default}")
    return found


# ---- rules ------------------------------------------------------------------------------------


def broken_rules(mtrrs: Mtrrs) -> list[str]:
    """Return which of the manual's rules for variable ranges the registers break.

    SDM vol. 3, "Range Size and Alignment Requirement" and "MTRR Precedences". No write that breaks
    them is refused.
    """
    found = []
    full = (1 << mtrrs.maxphyaddr) - 1 & ~_PAGE
    for index in range(m.VCNT):
        if not mtrrs.valid(index):
            continue
        mask = (mtrrs.masks[index] or 0) & full
        holes = full & ~mask
        if (holes | _PAGE) & ((holes | _PAGE) + 1):
            found.append(
                f"PHYSMASK{index} = {mtrrs.masks[index]:#x} has holes: no contiguous range"
            )
        if mtrrs.bases[index] & full & ~mask:
            start = mtrrs.bases[index] & mask
            found.append(
                f"PHYSBASE{index} = {mtrrs.bases[index]:#x} is not aligned to the range's size; "
                f"hardware begins at {start:#x}"
            )
    if mtrrs.fixed_enabled and not mtrrs.enabled:
        found.append("DEF_TYPE.FE = 1 with E = 0: the fixed MTRRs are off all the same")
    return found


class Difference(NamedTuple):
    """One register with another value; None where it was never written."""

    register: str
    left: int | None
    right: int | None


def differences(left: Mtrrs, right: Mtrrs) -> list[Difference]:
    """Return the registers in which two processors differ, PAT included."""
    pairs = [("DEF_TYPE", left.def_type, right.def_type)]
    pairs += [(fixed.name, left.fixed[n], right.fixed[n]) for n, fixed in enumerate(m.FIXED)]
    found = [Difference(*pair) for pair in pairs if pair[1] != pair[2]]
    for n in range(m.VCNT):
        if left.bases[n] != right.bases[n]:
            found.append(Difference(f"PHYSBASE{n}", left.bases[n], right.bases[n]))
        if (left.masks[n] or 0) != (right.masks[n] or 0):
            found.append(Difference(f"PHYSMASK{n}", left.masks[n], right.masks[n]))
    if left.pat != right.pat:
        found.append(Difference("PAT", left.pat, right.pat))
    return found


class MapDifference(NamedTuple):
    """A stretch in bytes with other types; ``left`` and ``right`` are (manual, KVM)."""

    start: int
    end: int
    left: tuple[MemType | None, MemType]
    right: tuple[MemType | None, MemType]


def map_differences(left: Mtrrs, right: Mtrrs) -> Iterator[MapDifference]:
    """Yield where two maps differ in a type, up to the lower MAXPHYADDR; neighbours are joined."""
    sides = rows(left), rows(right)
    one, two = next(sides[0], None), next(sides[1], None)
    start = 0
    pending: MapDifference | None = None
    while one is not None and two is not None:
        end = min(one.end, two.end)
        if one[2:4] != two[2:4]:
            here = MapDifference(start, end, (one.sdm, one.kvm), (two.sdm, two.kvm))
            if pending is not None and pending.end == start and pending[2:] == here[2:]:
                pending = pending._replace(end=end)
            else:
                if pending is not None:
                    yield pending
                pending = here
        start = end
        one = next(sides[0], None) if one.end == end else one
        two = next(sides[1], None) if two.end == end else two
    if pending is not None:
        yield pending


def disagreeing(states: Mapping[int, Mtrrs]) -> list[tuple[int, ...]]:
    """Group processors by equal MTRRs; more than one group breaks a rule of the manual."""
    groups: dict[Mtrrs, list[int]] = {}
    for cpu, mtrrs in states.items():
        key = mtrrs._replace(masks=tuple(mask or 0 for mask in mtrrs.masks))
        groups.setdefault(key, []).append(cpu)
    return [tuple(cpus) for cpus in groups.values()]


def pat_rows(mtrrs: Mtrrs) -> list[tuple[int, MemType, dict[MemType, MemType]]]:
    """Return (PAT entry, its type, effective type by MTRR type) for the eight entries, no EPT."""
    return [
        (index, kind, {mtrr: row[kind] for mtrr, row in pat.EFFECTIVE.items()})
        for index, kind in enumerate(pat.entries(mtrrs.pat))
    ]
