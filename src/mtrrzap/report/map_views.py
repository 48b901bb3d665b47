"""A memory map as JSON has it, and as a coloured strip."""

from collections.abc import Iterable, Sequence

from rich.text import Text

from mtrrzap.guest.listing import KernelMap
from mtrrzap.study import both_maps, kernel_map
from mtrrzap.study.against import Misfit
from mtrrzap.study.both_maps import MapDifference, MapRow, RegisterDifference
from mtrrzap.study.ept_types import NPT, EptRow
from mtrrzap.study.kernel_map import Difference, KernelRow
from mtrrzap.study.memory_map import States
from mtrrzap.x86 import pat
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

_LOOK: dict[MemType | None, tuple[str, str]] = {
    MemType.UC: ("u", "white on red"),
    MemType.WC: ("c", "black on yellow"),
    MemType.WT: ("t", "white on blue"),
    MemType.WP: ("p", "white on magenta"),
    MemType.WB: ("B", "black on green"),
    None: ("?", "black on white"),
}
"""A letter a type, so that a strip reads without colour too."""
LEGEND = (
    "B: WB, u: UC, c: WC, t: WT, p: WP, ?: undefined; low addresses first, widths grow with the "
    "logarithm of the size."
)
CELLS = 64


def bounds(start: int, end: int) -> tuple[str, str]:
    """Return the cells of a stretch's start and end."""
    return f"{start:#014x}", f"{end:#014x}"


def named(kind: MemType | None) -> str:
    """Return a type's name; the manual defines none for some overlaps."""
    return "undefined" if kind is None else str(kind)


def named_by_kernel(row: KernelRow) -> str:
    """Return the type of a row of Linux's own map."""
    return "the default" if row.type is None else str(row.type)


def strip(pieces: Sequence[tuple[int, int, MemType | None]], label: str) -> Text:
    """Return one line; every piece has a cell or more, the larger (in powers of two) the more."""
    text = Text(f"{label:8}")
    if not pieces:
        return text
    weights = [max(1, (end - start).bit_length() - 12) for start, end, _ in pieces]
    scale = max(0, CELLS - len(pieces)) / sum(weights)
    for (_, _, kind), weight in zip(pieces, weights, strict=True):
        letter, style = _LOOK[kind]
        text.append(letter * (1 + round(weight * scale)), style=style)
    return text


def as_dict(states: States, cpu: int) -> dict[str, object]:
    """Return one processor's map, and what is wrong with it."""
    mtrrs = states.cpus[cpu]
    found, whole = both_maps.table(mtrrs)
    return {
        "source": states.what,
        "vcpu": cpu,
        "processor": states.processor,
        "maxphyaddr": mtrrs.maxphyaddr,
        "map": [_row_dict(row) for row in found],
        "whole": whole,
        "pat": _pat_dict(mtrrs, pat.EFFECTIVE),
        "broken_rules": both_maps.broken_rules(mtrrs),
        "vcpus_alike": both_maps.disagreeing(states.cpus),
        "notes": states.notes,
    }


def address_as_dict(states: States, cpu: int, row: MapRow) -> dict[str, object]:
    """Return the types of one address's page, and why it has them."""
    mtrrs = states.cpus[cpu]
    return {
        "source": states.what,
        "vcpu": cpu,
        **_row_dict(row),
        "explanation": both_maps.explain(mtrrs, row.start),
        "pat": _pat_dict(mtrrs, [row.sdm, row.kvm]),
        "notes": states.notes,
    }


def kernel_map_as_dict(states: States, found: KernelMap) -> dict[str, object]:
    """Return Linux's own map."""
    listed = [row._asdict() | {"type": named_by_kernel(row)} for row in kernel_map.rows(found)]
    return {"source": states.what, "map": listed, "notes": states.notes}


def differences_as_dict(
    registers: Sequence[RegisterDifference], places: Sequence[MapDifference]
) -> dict[str, object]:
    """Return in what two processors' registers and maps differ."""

    def names(pair: tuple[MemType | None, MemType]) -> dict[str, str]:
        return {"sdm": named(pair[0]), "kvm": named(pair[1])}

    return {
        "registers": [found._asdict() for found in registers],
        "map": [
            {"start": d.start, "end": d.end, "left": names(d.left), "right": names(d.right)}
            for d in places
        ],
    }


def findings_as_dict(what: str, found: Sequence[Misfit]) -> dict[str, object]:
    """Return the RAM that is not WB and the devices' memory that is, by a source of that kind."""
    listed = [each._asdict() | {"sdm": named(each.sdm), "kvm": str(each.kvm)} for each in found]
    return {"against": what, "findings": listed}


def kernel_differences_as_dict(found: Sequence[Difference]) -> dict[str, object]:
    """Return where Linux's map has another type than the manual's lookup of the registers."""
    listed = [
        each._asdict() | {"kernel": str(each.kernel), "registers": str(each.registers)}
        for each in found
    ]
    return {"against": "the kernel's map", "map": listed}


def ept_as_dict(states: States, cpu: int, found: Iterable[EptRow]) -> dict[str, object]:
    """Return the effective types under EPT, by kernel, configuration and range."""
    listed = [
        row._asdict()
        | {"ept": str(row.ept), "effective": {str(k): str(v) for k, v in row.effective().items()}}
        for row in found
    ]
    return {"source": states.what, "vcpu": cpu, "ept": listed, "npt": NPT}


def _row_dict(row: MapRow) -> dict[str, object]:
    return row._asdict() | {"sdm": named(row.sdm), "kvm": str(row.kvm), "verdict": row.verdict}


def _pat_dict(mtrrs: Mtrrs, kinds: Iterable[MemType | None]) -> list[dict[str, object]]:
    """Return for each PAT entry its type, and the effective type by MTRR type, without EPT."""
    known = [kind for kind in kinds if kind is not None]
    return [
        {"entry": index, "type": str(kind), "effective": {str(k): str(found[k]) for k in known}}
        for index, kind, found in both_maps.pat_rows(mtrrs)
    ]
