"""One processor's memory map by the manual and by KVM: who decides, what overlaps mean."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, zip_longest
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from mtrrzap.kvm import lookup as kvm
from mtrrzap.x86 import msr as m
from mtrrzap.x86 import pat, physmap
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

MAX_ROWS = 200
"""Rows shown of one map; a mask with holes can make millions."""
_PAGE = 0xFFF


class Bounded(Protocol):
    """What has an end, in bytes."""

    @property
    def end(self) -> int: ...  # noqa: D102


Left = TypeVar("Left", bound=Bounded)
Right = TypeVar("Right", bound=Bounded)
Item = TypeVar("Item")


def side_by_side(
    left: Iterable[Left], right: Iterable[Right]
) -> Iterator[tuple[int, int, Left, Right]]:
    """Walk two maps together: yield (start, end, left, right) for every stretch of both.

    Both begin at 0 and have no gaps; the shorter one ends the walk.
    """
    lefts, rights = iter(left), iter(right)
    one, two = next(lefts, None), next(rights, None)
    start = 0
    while one is not None and two is not None:
        end = min(one.end, two.end)
        yield start, end, one, two
        start = end
        one = next(lefts, None) if one.end == end else one
        two = next(rights, None) if two.end == end else two


def joined(rows: Iterable[Item], join: Callable[[Item, Item], Item | None]) -> Iterator[Item]:
    """Yield the rows, neighbours joined where ``join`` makes one of two."""
    source = iter(rows)
    for pending in source:
        for row in source:
            if (both := join(pending, row)) is not None:
                pending = both
                continue
            yield pending
            pending = row
        yield pending


Row = TypeVar("Row", bound=tuple[Any, ...])


def one_stretch(first: Row, second: Row) -> Row | None:
    """Join two rows ``(start, end, ...)`` that touch and are else the same, or return None."""
    if (first[1], *first[2:]) != (second[0], *second[2:]):
        return None
    row: Any = first
    return cast(Row, row._replace(end=second[1]))


class MapRow(NamedTuple):
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
        if self.sdm is None:
            return f"overlap, undefined by the manual; KVM takes {self.kvm}"
        if self.sdm_deciders == ("TOM2",):
            return "" if self.sdm is self.kvm else "WB by AMD's TOM2, which a KVM guest lacks"
        other = set(self.sdm_deciders) != set(self.kvm_deciders)
        if self.sdm is not self.kvm:
            if other:
                return f"KVM-specific: a base or mask that KVM reads otherwise gives {self.kvm}"
            return f"overlap, KVM-specific: the order of KVM's list gives {self.kvm}"
        if not any(sum(name.startswith("PHYS") for name in by) > 1 for by in self[4:]):
            return ""
        if other:
            return "overlap in one reading only; the type is the same"
        return f"overlap, architectural: {self.sdm} wins"


def map_rows(mtrrs: Mtrrs) -> Iterator[MapRow]:
    """Yield the map by both lookups, ascending; neighbours differ in something."""
    both = side_by_side(physmap.physical_map(mtrrs), kvm.physical_map(mtrrs))
    for start, end, left, right in both:
        assert right.type is not None, "KVM always has an answer"
        yield MapRow(start, end, left.type, right.type, left.deciders, right.deciders)


def _one_fixed(first: MapRow, second: MapRow) -> MapRow | None:
    """Join fixed sub-ranges of the same type: 88 rows of them say nothing."""
    if first[2:4] != second[2:4] or not (_fixed(first) and _fixed(second)):
        return None
    return first._replace(
        end=second.end,
        sdm_deciders=(first.sdm_deciders[0], second.sdm_deciders[-1]),
        kvm_deciders=(first.kvm_deciders[0], second.kvm_deciders[-1]),
    )


def _fixed(row: MapRow) -> bool:
    return all(name.startswith("FIX") for name in row.sdm_deciders)


def table(mtrrs: Mtrrs) -> tuple[list[MapRow], bool]:
    """Return at most ``MAX_ROWS`` merged rows, and whether that is all."""
    found = list(islice(joined(map_rows(mtrrs), _one_fixed), MAX_ROWS + 1))
    return found[:MAX_ROWS], len(found) <= MAX_ROWS


def at(mtrrs: Mtrrs, address: int) -> MapRow:
    """Return the row of one 4-KiB page, as ``map_rows`` would have it."""
    page = address & ~_PAGE
    sdm = physmap.lookup(mtrrs, page)
    by_kvm, kvm_deciders = kvm.decided(mtrrs, kvm.variable_ranges(mtrrs), page)
    return MapRow(page, page + _PAGE + 1, sdm.type, by_kvm, sdm.deciders, kvm_deciders)


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
    if physmap.FOUR_GIB <= page < mtrrs.tom2:
        wb = f"the default type is WB up to AMD's TOM2 = {mtrrs.tom2:#x}"
        return [*found, f"{wb}; for KVM it is {mtrrs.default}"]
    found.append(f"the default type is {mtrrs.default}")
    return found


def broken_rules(mtrrs: Mtrrs) -> list[str]:
    """Return which of the manual's rules for variable ranges the registers break.

    SDM vol. 3, "Range Size and Alignment Requirement" and "MTRR Precedences". No write that breaks
    them is refused.
    """
    found = []
    full = (1 << mtrrs.maxphyaddr) - 1 & ~_PAGE
    for index in range(mtrrs.vcnt):
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


class RegisterDifference(NamedTuple):
    """One register with another value; None where it was never written."""

    register: str
    left: int | None
    right: int | None


def differences(left: Mtrrs, right: Mtrrs) -> list[RegisterDifference]:
    """Return the registers in which two processors differ, PAT included."""
    pairs = [("DEF_TYPE", left.def_type, right.def_type)]
    pairs += [(fixed.name, left.fixed[n], right.fixed[n]) for n, fixed in enumerate(m.FIXED)]
    found = [RegisterDifference(*pair) for pair in pairs if pair[1] != pair[2]]
    bases = zip_longest(left.bases, right.bases, fillvalue=0)
    masks = zip_longest(left.masks, right.masks)
    for n, (base, mask) in enumerate(zip(bases, masks, strict=True)):
        if base[0] != base[1]:
            found.append(RegisterDifference(f"PHYSBASE{n}", *base))
        if (mask[0] or 0) != (mask[1] or 0):
            found.append(RegisterDifference(f"PHYSMASK{n}", *mask))
    rest = (("PAT", left.pat, right.pat), ("TOM2", left.tom2, right.tom2))
    return found + [RegisterDifference(*pair) for pair in rest if pair[1] != pair[2]]


class MapDifference(NamedTuple):
    """A stretch in bytes with other types; ``left`` and ``right`` are (manual, KVM)."""

    start: int
    end: int
    left: tuple[MemType | None, MemType]
    right: tuple[MemType | None, MemType]


def map_differences(left: Mtrrs, right: Mtrrs) -> Iterator[MapDifference]:
    """Yield where two maps differ in a type, up to the lower MAXPHYADDR; neighbours are joined."""
    different = (
        MapDifference(start, end, (one.sdm, one.kvm), (two.sdm, two.kvm))
        for start, end, one, two in side_by_side(map_rows(left), map_rows(right))
        if one[2:4] != two[2:4]
    )
    return joined(different, one_stretch)


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
