"""``mtrrzap memtype``: the physical map and its types."""

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from mtrrzap.api.memory_map import KernelMemoryMap, RegisterMap
from mtrrzap.cli.options import JsonOption, read_from, unused, with_options
from mtrrzap.cli.progress import working
from mtrrzap.errors import UserError
from mtrrzap.guest.listing import FORMATS, KernelMap, regions
from mtrrzap.report import map_views as report
from mtrrzap.report import text
from mtrrzap.report.map_views import bounds, named, named_by_kernel
from mtrrzap.study import both_maps, ept_types, kernel_map
from mtrrzap.study.against import against_regions
from mtrrzap.study.both_maps import MapDifference, MapRow, RegisterDifference
from mtrrzap.study.memory_map import TRACE, States, load, text_of
from mtrrzap.x86 import pat
from mtrrzap.x86.mtrr import Mtrrs

KERNEL_MAXPHYADDR = 52
"""Where only Linux's map is known: the widest address that there is."""


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """What of the map is shown."""

    lookup: Annotated[
        Literal["sdm", "kvm", "both"],
        typer.Option(help="Whose rules to apply: the manual's (sdm), KVM's, or both."),
    ] = "both"
    address: Annotated[str | None, typer.Option(help="Explain one address, given in hex.")] = None
    with_pat: Annotated[
        bool, typer.Option("--pat", help="Add the effective types by PAT entry, without EPT.")
    ] = False
    ept: Annotated[
        bool, typer.Option(help="Show the effective types under EPT, by kernel version and quirk.")
    ] = False
    diff: Annotated[
        str | None,
        typer.Option(help="Compare with a vCPU of the same source, or with another source."),
    ] = None
    against: Annotated[
        str | None,
        typer.Option(
            help="Compare with /proc/iomem or a boot log's e820 lines (RAM that is not WB, MMIO "
            "that is), with Linux's own map, or as --diff does.",
        ),
    ] = None

    @property
    def second(self) -> str | None:
        """The source to compare with. Raises ``UserError`` if there are two."""
        if self.diff is not None and self.against is not None:
            raise UserError("--diff and --against cannot be combined", mend="choose one")
        return self.against if self.diff is None else self.diff

    @property
    def registers_needed(self) -> bool:
        """Whether a map without registers cannot answer."""
        return self.second is not None or self.with_pat or self.ept

    def address_in(self, maxphyaddr: int) -> int | None:
        """Return the address. Raises ``UserError`` if it is not one of that width."""
        if self.address is None:
            return None
        try:
            value = int(self.address, 16)
        except ValueError:
            value = -1
        if not 0 <= value < 1 << maxphyaddr:
            raise UserError(
                f"invalid address {self.address[:40]!r}",
                place="address",
                mend=f"use hex, below {1 << maxphyaddr:#x} (MAXPHYADDR {maxphyaddr})",
            )
        return value


def _refuse_unused(view: ViewOptions, *, json: bool) -> None:
    """Raise ``UserError`` if an option is given that has no effect beside the others."""
    if view.second is not None:
        unused("in a comparison, which applies both", "lookup")
    if view.ept:
        unused("with --ept", "lookup", "with_pat")
    if json:
        unused("with --json, which has all of it", "lookup", "with_pat")


@with_options
def memtype(
    source: Annotated[
        Path,
        typer.Argument(
            help="A trace, an MSR dump (text, JSON), /proc/mtrr, a kernel's or firmware's log; "
            "- is standard input.",
            callback=read_from,
        ),
    ],
    *,
    at: Annotated[
        int | None,
        typer.Option(
            help="Take a trace's state after this event, counted from 0. Default: the last."
        ),
    ] = None,
    vcpu: Annotated[
        int | None, typer.Option(help="Show this vCPU's map. Default: the lowest vCPU's.")
    ] = None,
    view: ViewOptions,
    maxphyaddr: Annotated[
        int | None,
        typer.Option(
            help="The guest's MAXPHYADDR in bits, where a listing does not show it.", min=32, max=52
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help=f"How to read a listing that could be several: {', '.join(FORMATS)}.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show memory types by address: who decided, what overlaps mean, which rules are broken."""
    with working(f"reading {source}"):
        states = load(source, at, maxphyaddr, form)
    if states.what == TRACE:
        unused("on a trace", "form")
        if view.second is None:
            unused("on a trace, whose header says it", "maxphyaddr")
    _refuse_unused(view, json=json)
    if states.kernel_map is not None and not states.cpus:
        if vcpu is not None or view.registers_needed:
            states.one(None, "--vcpu, --diff, --against, --pat, --ept")
        unused("on a map without registers", "lookup")
        _show_kernel_map(states, states.kernel_map, view, json=json)
    else:
        _show(states, vcpu, view, maxphyaddr, json=json)


def _show(
    states: States, vcpu: int | None, view: ViewOptions, maxphyaddr: int | None, *, json: bool
) -> None:
    number, mtrrs = states.one(vcpu, "vcpu")
    if view.second is not None:
        _compare(states, number, view, maxphyaddr, json=json)
    elif view.ept:
        _show_ept(states, number, view, json=json)
    elif (address := view.address_in(mtrrs.maxphyaddr)) is not None:
        _show_address(states, number, address, view, json=json)
    elif json:
        sys.stdout.write(text.as_json(report.as_dict(states, number)))
    else:
        RegisterMap(states, number, mtrrs, view.lookup).print_to(text.console())
        if view.with_pat:
            _print_pat(text.console(), mtrrs, None)


# ---- one address ------------------------------------------------------------------------------


def _show_address(states: States, cpu: int, address: int, view: ViewOptions, *, json: bool) -> None:
    mtrrs = states.cpus[cpu]
    row = both_maps.at(mtrrs, address)
    if json:
        sys.stdout.write(text.as_json(report.address_as_dict(states, cpu, row)))
        return
    console = text.console()
    types = {"sdm": f"manual {named(row.sdm)}", "kvm": f"KVM {row.kvm}"}
    types["both"] = ", ".join(types.values())
    text.say(console, f"{address:#x}: {types[view.lookup]}")
    for reason in both_maps.explain(mtrrs, address):
        text.say(console, f"  {reason}")
    if row.verdict and view.lookup == "both":
        text.say(console, f"  {row.verdict}")
    if view.with_pat:
        _print_pat(console, mtrrs, row)


def _print_pat(console: Console, mtrrs: Mtrrs, row: MapRow | None) -> None:
    """Print effective types: for every MTRR type, or for those of one address."""
    wanted = list(pat.EFFECTIVE)
    if row is not None:
        wanted = list(dict.fromkeys(kind for kind in (row.sdm, row.kvm) if kind is not None))
    columns = ["entry", "PAT type", *(f"MTRR {kind}" for kind in wanted)]
    cells = [
        (str(index), str(kind), *(str(found[mtrr]) for mtrr in wanted))
        for index, kind, found in both_maps.pat_rows(mtrrs)
    ]
    title = f"Effective types by IA32_PAT = {mtrrs.pat:#x}, without EPT and with CR0.CD = 0"
    text.print_table(console, columns, cells, title=title)


def _show_ept(states: States, cpu: int, view: ViewOptions, *, json: bool) -> None:
    """Print the effective types under EPT, of every range or of one address."""
    mtrrs = states.cpus[cpu]
    address = view.address_in(mtrrs.maxphyaddr)
    found = list(islice(ept_types.rows(mtrrs), both_maps.MAX_ROWS))
    if address is not None:
        found = [row for row in found if row.start <= address < row.end]
    if json:
        sys.stdout.write(text.as_json(report.ept_as_dict(states, cpu, found)))
        return
    console = text.console()
    columns = ["kernel", "VM", "start", "end", "EPT type"]
    columns += [f"PAT {kind}" for kind in ept_types.PAT_TYPES]
    cells = [
        (row.kernel, row.case, *bounds(row.start, row.end), row.ept, *row.effective().values())
        for row in found
    ]
    title = f"vCPU {cpu}, {states.what}: effective types under EPT, by the guest's PAT type"
    text.print_table(console, columns, cells, title=title)
    text.say(console, ept_types.NPT)


# ---- two sources ---------------------------------------------------------------------------


def _compare(
    states: States, cpu: int, view: ViewOptions, maxphyaddr: int | None, *, json: bool
) -> None:
    """Compare with another source. Exit status 1 if there is a difference, like diff(1)."""
    option = "--diff" if view.against is None else "--against"
    if view.address is not None or view.with_pat or view.ept:
        raise UserError(
            f"{option} compares whole maps and cannot be combined with --address, --pat or --ept",
            mend="leave one out",
        )
    other = Path(view.second or "")
    if view.against is not None and other.is_file():
        if regions.is_regions(listed := text_of(other)):
            _against_regions(states.cpus[cpu], listed, other, json=json)
            return
        found = load(other, None, maxphyaddr)
        if found.kernel_map is not None and not found.cpus:
            _against_kernel(states.cpus[cpu], found.kernel_map, json=json)
            return
    _diff(states, cpu, str(other), maxphyaddr, json=json)


def _against_regions(mtrrs: Mtrrs, listed: str, source: Path, *, json: bool) -> None:
    what, places = regions.read(listed, str(source))
    found = against_regions(mtrrs, places, holes=what == "e820")
    if json:
        sys.stdout.write(text.as_json(report.findings_as_dict(what, found)))
    elif found:
        cells = [
            (*bounds(f.start, f.end), f.what, f.name, named(f.sdm), named(f.kvm)) for f in found
        ]
        columns = ("start", "end", "finding", f"in {what}", "manual", "KVM")
        text.print_table(text.console(), columns, cells, title=f"What does not fit {what}")
    else:
        text.say(text.console(), f"By {what} all RAM is WB, and no MMIO is.")
    if found:
        raise typer.Exit(1)


def _against_kernel(mtrrs: Mtrrs, kernel: KernelMap, *, json: bool) -> None:
    found = list(islice(kernel_map.differences(mtrrs, kernel), both_maps.MAX_ROWS))
    if json:
        sys.stdout.write(text.as_json(report.kernel_differences_as_dict(found)))
    elif found:
        cells = [(*bounds(d.start, d.end), named(d.registers), named(d.kernel)) for d in found]
        columns = ("start", "end", "registers (manual)", "kernel's map")
        text.print_table(text.console(), columns, cells, title="Memory types that differ")
    else:
        text.say(text.console(), "The kernel's map agrees with the manual's lookup.")
    if found:
        raise typer.Exit(1)


def _diff(states: States, cpu: int, other: str, maxphyaddr: int | None, *, json: bool) -> None:
    """Compare two processors' registers and maps."""
    mine = states.cpus[cpu]
    if other.isascii() and other.isdecimal() and not Path(other).exists():
        theirs = states.one(int(other[:9]), "diff")[1]
        name = f"vCPU {other}"
    else:
        found = load(Path(other), None, maxphyaddr)
        number, theirs = found.one(cpu if cpu in found.cpus else None, "diff")
        name = f"{other}, vCPU {number}"
    registers = both_maps.differences(mine, theirs)
    places = list(islice(both_maps.map_differences(mine, theirs), both_maps.MAX_ROWS))
    if json:
        sys.stdout.write(text.as_json(report.differences_as_dict(registers, places)))
    elif registers or places:
        _print_diff(f"vCPU {cpu}", name, registers, places)
    else:
        text.say(text.console(), f"vCPU {cpu} and {name} have the same MTRRs and PAT.")
    if registers or places:
        raise typer.Exit(1)


def _print_diff(
    left: str, right: str, registers: list[RegisterDifference], places: list[MapDifference]
) -> None:
    console = text.console()
    cells = [
        (d.register, *("never written" if v is None else f"{v:#x}" for v in d[1:]))
        for d in registers
    ]
    title = "Registers that differ"
    text.print_table(console, ("register", left, right), cells, title=title)
    if not places:
        console.print("Every address still has the same type.")
        return
    columns = ("start", "end", f"{left}: manual", "KVM", f"{right}: manual", "KVM")
    rows = [(*bounds(d.start, d.end), *map(named, (*d.left, *d.right))) for d in places]
    text.print_table(console, columns, rows, title="Memory types that differ")


# ---- a boot log that has Linux's map and no register -------------------------------------------


def _show_kernel_map(states: States, found: KernelMap, view: ViewOptions, *, json: bool) -> None:
    """Print the map as JSON, the row of one address, or all of it."""
    if json:
        sys.stdout.write(text.as_json(report.kernel_map_as_dict(states, found)))
        return
    console = text.console()
    if (address := view.address_in(KERNEL_MAXPHYADDR)) is not None:
        row = kernel_map.at(found, address)
        text.say(
            console, f"{address:#x}: {named_by_kernel(row)}, by the kernel's map ({row.decider})"
        )
        return
    KernelMemoryMap(states, found).print_to(console)
