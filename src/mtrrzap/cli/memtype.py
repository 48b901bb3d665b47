"""``mtrrzap memtype``: the physical map and its types."""

import sys
from collections.abc import Iterable
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mtrrzap.cli import kernel_map
from mtrrzap.cli.options import JsonOption
from mtrrzap.cli.show import numbers
from mtrrzap.errors import UserError
from mtrrzap.report import memory_map as report
from mtrrzap.report import text
from mtrrzap.report.strip import LEGEND, strip
from mtrrzap.study.memory_map import States, load
from mtrrzap.x86 import pat
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs


class Lookup(StrEnum):
    """Whose rules: the manual's, KVM's (v6.1 to v6.10), or both side by side."""

    SDM = "sdm"
    KVM = "kvm"
    BOTH = "both"


def memtype(
    source: Annotated[
        Path,
        typer.Argument(help="A trace, an MSR dump (text, JSON), /proc/mtrr, or a Linux boot log."),
    ],
    *,
    at: Annotated[
        int | None, typer.Option(help="A trace's state after this event, from 0.")
    ] = None,
    vcpu: Annotated[int | None, typer.Option(help="Whose map; the lowest vCPU's if none.")] = None,
    lookup: Annotated[Lookup, typer.Option(help="Whose rules.")] = Lookup.BOTH,
    address: Annotated[str | None, typer.Option(help="Explain one address, in hex.")] = None,
    with_pat: Annotated[
        bool, typer.Option("--pat", help="Add the types that the PAT entries make, without EPT.")
    ] = False,
    diff: Annotated[
        str | None, typer.Option(help="Compare with a vCPU of the same source, or another source.")
    ] = None,
    maxphyaddr: Annotated[
        int | None, typer.Option(help="MAXPHYADDR in bits, for listings.", min=32, max=52)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show memory types by address: who decided, what overlaps mean, which rules are broken."""
    states = load(source, at, maxphyaddr)
    if states.kernel_map is not None and not states.cpus:
        if vcpu is not None or diff is not None or with_pat:
            states.one(None, "--vcpu, --diff, --pat")
        kernel_map.show(states, states.kernel_map, address, json=json)
        return
    number, mtrrs = states.one(vcpu, "--vcpu")
    if diff is not None:
        if address is not None or with_pat:
            raise UserError(
                "--diff compares registers and maps, with neither --address nor --pat",
                mend="leave it out, or look at each side alone",
            )
        _diff(states, number, diff, maxphyaddr, json=json)
    elif address is not None:
        row = report.at(mtrrs, kernel_map.address_of(address, mtrrs.maxphyaddr))
        if json:
            sys.stdout.write(text.as_json(_address_dict(states, number, mtrrs, row)))
            return
        _print_address(text.console(), mtrrs, int(address, 16), row, lookup)
        if with_pat:
            _print_pat(text.console(), mtrrs, row)
    elif json:
        sys.stdout.write(text.as_json(_as_dict(states, number, mtrrs)))
    else:
        _print(text.console(), states, number, mtrrs, lookup)
        if with_pat:
            _print_pat(text.console(), mtrrs, None)


def _named(kind: MemType | None) -> str:
    return "undefined" if kind is None else str(kind)


def _range(start: int, end: int) -> tuple[str, str]:
    return f"{start:#014x}", f"{end:#014x}"


def _print(console: Console, states: States, cpu: int, mtrrs: Mtrrs, lookup: Lookup) -> None:
    found, whole = report.table(mtrrs)
    columns = ["start", "end", "manual", "KVM", "decided by", "meaning"]
    wanted = {Lookup.SDM: [0, 1, 2, 4], Lookup.KVM: [0, 1, 3, 4], Lookup.BOTH: range(6)}[lookup]
    cells = []
    for row in found:
        decided = row.kvm_deciders if lookup is Lookup.KVM else row.sdm_deciders
        by = " .. ".join(decided) if decided[0].startswith("FIX") else " ".join(decided)
        if lookup is Lookup.BOTH and row.kvm_deciders != row.sdm_deciders:
            by += f" (KVM: {' '.join(row.kvm_deciders)})"
        every = (*_range(row.start, row.end), _named(row.sdm), _named(row.kvm), by, row.verdict)
        cells.append([every[index] for index in wanted])
    title = f"vCPU {cpu}, {states.what}: memory types (bytes, end exclusive)"
    console.print(text.table([columns[index] for index in wanted], cells, title=title))
    if not whole:
        console.print(f"... and more: only the first {report.MAX_ROWS} rows are shown.")
    if lookup is not Lookup.KVM:
        console.print(strip([(row.start, row.end, row.sdm) for row in found], "manual"))
    if lookup is not Lookup.SDM:
        console.print(strip([(row.start, row.end, row.kvm) for row in found], "KVM"))
    console.print(f"{LEGEND}; low addresses first, widths grow with the logarithm of the size.")
    _print_findings(console, states, cpu, mtrrs)


def _print_findings(console: Console, states: States, cpu: int, mtrrs: Mtrrs) -> None:
    for note in states.notes:
        text.say(console, f"note: {note}")
    for rule in report.broken_rules(mtrrs):
        text.say(console, f"vCPU {cpu} breaks a rule of the manual: {rule}")
    groups = report.disagreeing(states.cpus)
    if len(groups) > 1:
        listed = "; ".join(numbers(group) for group in groups)
        text.say(
            console,
            f"The vCPUs' MTRRs DIFFER, which breaks a rule of the manual: {listed}. See --diff.",
        )
    elif len(states.cpus) > 1:
        console.print(f"All {len(states.cpus)} vCPUs have the same MTRRs.")


def _print_address(
    console: Console, mtrrs: Mtrrs, address: int, row: report.Row, lookup: Lookup
) -> None:
    types = {Lookup.SDM: f"manual {_named(row.sdm)}", Lookup.KVM: f"KVM {row.kvm}"}
    types[Lookup.BOTH] = ", ".join(types.values())
    text.say(console, f"{address:#x}: {types[lookup]}")
    for reason in report.explain(mtrrs, address):
        text.say(console, f"  {reason}")
    if row.verdict and lookup is Lookup.BOTH:
        text.say(console, f"  {row.verdict}")


def _print_pat(console: Console, mtrrs: Mtrrs, row: report.Row | None) -> None:
    """Print effective types: for every MTRR type, or for those of one address."""
    wanted = list(pat.EFFECTIVE)
    if row is not None:
        wanted = list(dict.fromkeys(kind for kind in (row.sdm, row.kvm) if kind is not None))
    columns = ["entry", "PAT type", *(f"MTRR {kind}" for kind in wanted)]
    cells = [
        (str(index), str(kind), *(str(found[mtrr]) for mtrr in wanted))
        for index, kind, found in report.pat_rows(mtrrs)
    ]
    title = f"Effective types by IA32_PAT = {mtrrs.pat:#x}, without EPT and with CR0.CD = 0"
    console.print(text.table(columns, cells, title=title))


def _address_dict(states: States, cpu: int, mtrrs: Mtrrs, row: report.Row) -> dict[str, object]:
    return {
        "source": states.what,
        "vcpu": cpu,
        **_row_dict(row),
        "explanation": report.explain(mtrrs, row.start),
        "pat": _pat_dict(mtrrs, [row.sdm, row.kvm]),
        "notes": states.notes,
    }


def _row_dict(row: report.Row) -> dict[str, object]:
    return row._asdict() | {"sdm": _named(row.sdm), "kvm": str(row.kvm), "verdict": row.verdict}


def _pat_dict(mtrrs: Mtrrs, kinds: Iterable[MemType | None]) -> list[dict[str, object]]:
    """Return for each PAT entry its type, and the effective type by MTRR type, without EPT."""
    known = [kind for kind in kinds if kind is not None]
    return [
        {"entry": index, "type": str(kind), "effective": {str(k): str(found[k]) for k in known}}
        for index, kind, found in report.pat_rows(mtrrs)
    ]


def _as_dict(states: States, cpu: int, mtrrs: Mtrrs) -> dict[str, object]:
    found, whole = report.table(mtrrs)
    return {
        "source": states.what,
        "vcpu": cpu,
        "maxphyaddr": mtrrs.maxphyaddr,
        "map": [_row_dict(row) for row in found],
        "whole": whole,
        "pat": _pat_dict(mtrrs, pat.EFFECTIVE),
        "broken_rules": report.broken_rules(mtrrs),
        "vcpus_alike": report.disagreeing(states.cpus),
        "notes": states.notes,
    }


def _diff(states: States, cpu: int, other: str, maxphyaddr: int | None, *, json: bool) -> None:
    """Compare with ``other``. Exit status 1 if there is a difference, like diff(1)."""
    mine = states.cpus[cpu]
    if other.isascii() and other.isdecimal() and not Path(other).exists():
        theirs = states.one(int(other[:9]), "--diff")[1]
        name = f"vCPU {other}"
    else:
        found = load(Path(other), None, maxphyaddr)
        number, theirs = found.one(cpu if cpu in found.cpus else None, "--diff")
        name = f"{other}, vCPU {number}"
    registers = report.differences(mine, theirs)
    places = list(islice(report.map_differences(mine, theirs), report.MAX_ROWS))
    if json:
        sys.stdout.write(text.as_json(_diff_dict(registers, places)))
    else:
        _print_diff(text.console(), f"vCPU {cpu}", name, registers, places)
    if registers or places:
        raise typer.Exit(1)


def _diff_dict(
    registers: list[report.Difference], places: list[report.MapDifference]
) -> dict[str, object]:
    def names(pair: tuple[MemType | None, MemType]) -> dict[str, str]:
        return {"sdm": _named(pair[0]), "kvm": _named(pair[1])}

    return {
        "registers": [found._asdict() for found in registers],
        "map": [
            {"start": d.start, "end": d.end, "left": names(d.left), "right": names(d.right)}
            for d in places
        ],
    }


def _print_diff(
    console: Console,
    left: str,
    right: str,
    registers: list[report.Difference],
    places: list[report.MapDifference],
) -> None:
    if not registers and not places:
        text.say(console, f"{left} and {right} have the same MTRRs and PAT.")
        return
    cells = [
        (d.register, *("never written" if v is None else f"{v:#x}" for v in d[1:]))
        for d in registers
    ]
    console.print(text.table(("register", left, right), cells, title="Registers that differ"))
    columns = ("start", "end", f"{left}: manual", "KVM", f"{right}: manual", "KVM")
    rows = [
        (*_range(d.start, d.end), _named(d.left[0]), d.left[1], _named(d.right[0]), d.right[1])
        for d in places
    ]
    if rows:
        cells_text = [[str(value) for value in row] for row in rows]
        console.print(text.table(columns, cells_text, title="Memory types that differ"))
    else:
        console.print("Every address has the same type all the same.")
