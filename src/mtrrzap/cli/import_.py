"""``mtrrzap import``: captures of a real KVM as traces."""

import sys
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from mtrrzap.cli.options import (
    STDOUT,
    CaptureArgument,
    ForceOption,
    memory_size,
    unused,
    with_options,
)
from mtrrzap.cli.output import write
from mtrrzap.cli.progress import working
from mtrrzap.errors import UserError, counted
from mtrrzap.guest import tabular
from mtrrzap.guest.event import Kind
from mtrrzap.guest.files import distinct, kept
from mtrrzap.guest.importer import Capture, Imported, Known, Start, read_capture
from mtrrzap.guest.importer.scan import Source
from mtrrzap.guest.importer.source import Opened, opened
from mtrrzap.guest.measured_costs import Cost, cost_path
from mtrrzap.guest.trace import MAGIC, MAX_LINE, Trace, trace_lines
from mtrrzap.report import text
from mtrrzap.x86 import msr as m

_OF_CAPTURES = (
    *("only_list", "vm", "start"),
    *("firmware", "guest_kernel", "memory", "maxphyaddr", "vcpus"),
)
_NUMBERS = frozenset(("VM", "vCPUs", "events", "MTRR writes", "#GP", "CR0 writes", "INITs"))


@dataclass(frozen=True, kw_only=True)
class CapturedGuestOptions:
    """What a capture cannot tell."""

    start: Annotated[
        Start, typer.Option(help="Where the capture begins, if the guess is wrong.")
    ] = Start.AUTO

    firmware: Annotated[str, typer.Option(help="The guest's firmware: family, version.")] = (
        "unknown"
    )
    guest_kernel: Annotated[str, typer.Option(help="The guest's kernel.")] = "unknown"
    memory: Annotated[str, typer.Option(help="Guest RAM, for example 16G; 0: unknown.")] = "0"
    maxphyaddr: Annotated[
        int | None, typer.Option(help="The guest's MAXPHYADDR in bits.", min=32, max=52)
    ] = None
    vcpus: Annotated[
        int | None,
        typer.Option(
            help="The guest's vCPUs, if some did nothing; 1 if lines name no thread.",
            min=1,
            max=4096,
        ),
    ] = None

    def known(self, file: Path) -> Known:
        """Return what the options say of a capture. Raises ``UserError``."""
        given = vars(self) | {"memory": memory_size(self.memory)}
        return Known(command=f"mtrrzap import {file.name}", **given)


@with_options
def import_(
    file: CaptureArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The trace to write; - is standard output. Default: FILE's name with .trace.",
        ),
    ] = None,
    *,
    only_list: Annotated[bool, typer.Option("--list", help="List the VMs, write nothing.")] = False,
    vm: Annotated[
        int | None, typer.Option(help="Import only this VM, as --list numbers it.")
    ] = None,
    guest: CapturedGuestOptions,
    force: ForceOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with --list.")] = False,
) -> None:
    """Turn a capture of a real KVM (by trace-cmd, ftrace or perf) into traces."""
    if json and not only_list:
        raise UserError("--json is for --list", mend="add --list")
    if only_list:
        unused("with --list, which writes nothing", "output", "force")
    known = guest.known(file)
    with working(f"reading {file}") as now:
        capture = _read(file, output, now, force=force)
        if capture is None:
            return
        chosen = _chosen(capture, vm)
        known = replace(known, date=_date(file))
        imported = []
        for number in chosen:
            now(f"VM {number}: making a trace")
            imported.append(capture.trace(capture.vms[number], known))
    if json:
        rows = [_as_dict(capture, *pair) for pair in zip(chosen, imported, strict=True)]
        sys.stdout.write(text.as_json(rows))
    elif only_list:
        _print_list(capture, chosen, imported, None)
        if (why := imported[0].trace.incomplete) is not None:
            text.say(text.console(), f"INCOMPLETE: {why}")
    elif output == STDOUT:
        if len(imported) > 1:
            raise UserError(
                f"the capture has {len(imported)} VMs", place="--output", mend="choose one by --vm"
            )
        sys.stdout.writelines(trace_lines(imported[0].trace))
    else:
        paths = _paths(output or _default(file), chosen)
        _write(paths, imported, file, force=force)
        _print_list(capture, chosen, imported, paths)
        for path, one in zip(paths, imported, strict=True):
            _print_one(path, one)


def _read(
    file: Path, output: Path | None, now: Callable[[str], None], *, force: bool
) -> Capture | None:
    """Return what a capture holds. A CSV is imported at once: None."""
    with opened(file) as capture_file:
        if capture_file.head.startswith(MAGIC.encode()):
            raise UserError("already a trace", place=capture_file.name, mend="use it as it is")
        if capture_file.head.startswith(tabular.CSV_FIRST.encode()):
            unused("on a trace as CSV, which says all that itself", *_OF_CAPTURES)
            _import_csv(capture_file, output or _default(file), file, force=force)
            return None
        return read_capture(_told(capture_file, now), capture_file.name)


def _told(capture_file: Opened, now: Callable[[str], None]) -> Source:
    """Return the capture's source, which says how much of it has been read."""

    def chunks() -> Iterator[bytes]:
        read = 0
        for chunk in capture_file.source():
            read += len(chunk)
            now(f"{capture_file.name}: {read >> 20:,} MiB read")
            yield chunk

    return chunks


def _write(paths: Sequence[Path], imported: Sequence[Imported], file: Path, *, force: bool) -> None:
    """Write traces, and costs beside them; first make sure that nothing is lost by that."""
    for path in paths:
        distinct({"--output": path}, {"FILE": file})
        kept(path, "--output", force=force)
        kept(cost_path(path), "--output", force=force)
    for path, one in zip(paths, imported, strict=True):
        write(path, trace_lines(one.trace))
        if one.costs:
            write(cost_path(path), [text.as_csv(one.costs, Cost._fields)])
        else:
            # Costs of the trace that was here before.
            cost_path(path).unlink(missing_ok=True)


def _chosen(capture: Capture, vm: int | None) -> list[int]:
    numbers = list(range(len(capture.vms)))
    if vm is None:
        return numbers
    if vm not in numbers:
        raise UserError(
            f"no VM {vm}; the capture has {len(numbers)}",
            place="--vm",
            mend="list them with 'mtrrzap import --list'",
        )
    return [vm]


def _date(file: Path) -> str:
    """Return the day on which the capture was written; standard input has today's."""
    seconds = file.stat().st_mtime if str(file) != "-" else time.time()
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _default(file: Path) -> Path:
    """Return FILE's name with .trace, in the current directory."""
    name = "capture" if str(file) == "-" else file.name
    for suffix in (".xz", ".gz", ".bz2", ".txt", ".dat", ".csv"):
        name = name.removesuffix(suffix)
    return Path(f"{name}.trace")


def _paths(output: Path, chosen: Sequence[int]) -> list[Path]:
    if len(chosen) == 1:
        return [output]
    return [output.with_name(f"{output.stem}-vm{number}{output.suffix}") for number in chosen]


def _import_csv(capture_file: Opened, output: Path, file: Path, *, force: bool) -> None:
    if output == STDOUT:
        csv = _lines(capture_file.source())
        sys.stdout.writelines(trace_lines(tabular.read_csv(csv, capture_file.name)))
        return
    distinct({"--output": output}, {"FILE": file})
    kept(output, "--output", force=force)
    trace = tabular.read_csv(_lines(capture_file.source()), capture_file.name)
    write(output, trace_lines(trace))
    console = text.console()
    text.say(console, f"{output}: {counted(len(trace.events), 'event')} from CSV.")


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of a stream of bytes; one over ``MAX_LINE`` comes in part and is the last."""
    decoder = getincrementaldecoder("utf-8")("replace")
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from (f"{line}\n" for line in whole)
        if len(rest) > MAX_LINE:
            break
    if rest:
        yield rest


def _as_dict(capture: Capture, number: int, one: Imported) -> dict[str, object]:
    names = ("mtrr_writes", "refused", "cr0_writes", "inits")
    return {
        "vm": number,
        "vcpus": one.trace.header.vcpus,
        "events": len(one.trace.events),
        **dict(zip(names, _counts(one.trace), strict=True)),
        "threads": {str(tid): vcpu for tid, vcpu in capture.vms[number].vcpus.items()},
        "process": capture.vms[number].process,
        "incomplete": one.trace.incomplete,
    }


def _print_list(
    capture: Capture,
    chosen: Sequence[int],
    imported: Sequence[Imported],
    paths: Sequence[Path] | None,
) -> None:
    columns = ["VM", "vCPUs", "events", "MTRR writes", "#GP", "CR0 writes", "INITs", "threads"]
    columns += ["trace"] if paths else []
    rows: list[tuple[object, ...]] = []
    for position, number in enumerate(chosen):
        trace = imported[position].trace
        threads = " ".join(
            f"{tid if tid >= 0 else '-'}:{vcpu}" for tid, vcpu in capture.vms[number].vcpus.items()
        )
        process = capture.vms[number].process
        threads = f"{threads} (process {process})" if process is not None else threads
        rows.append((number, trace.header.vcpus, len(trace.events), *_counts(trace), threads))
        rows[-1] += (str(paths[position]),) if paths else ()
    text.print_table(
        text.console(),
        columns,
        rows,
        title=f"VMs in {capture.name} (threads as tid:vCPU)",
        numbers=_NUMBERS,
        droppable=("threads", "INITs", "CR0 writes", "#GP", "MTRR writes"),
    )


def _counts(trace: Trace) -> tuple[int, int, int, int]:
    def count(kind: Kind) -> int:
        return sum(event.kind is kind for event in trace.events)

    refused = sum(event.refused for event in trace.events)
    writes = sum(e.kind is Kind.WRMSR and e.msr in m.MTRR_MSRS for e in trace.events)
    return writes, refused, count(Kind.CR0), count(Kind.INIT)


def _print_one(path: Path, one: Imported) -> None:
    console = text.console()
    for note in one.trace.header.notes:
        text.say(console, f"{path}: {note}")
    if one.trace.incomplete is not None:
        text.say(console, f"{path}: INCOMPLETE: {one.trace.incomplete}")
    if one.costs:
        columns = ("MTRR", "writes", "total us", "median us", "worst us")
        text.print_table(
            console,
            columns,
            cost_rows(one.costs),
            title=f"Measured cost of MTRR writes, exit to entry; each one: {cost_path(path)}",
            numbers=columns[1:],
        )


def cost_rows(costs: Sequence[Cost]) -> Iterator[tuple[str, int, str, str, str]]:
    """Yield (kind of MTRR, writes, total, median, worst) of measured costs, in microseconds."""
    groups: dict[str, list[int]] = {"DEF_TYPE": [], "fixed": [], "variable": []}
    for cost in costs:
        fixed = "fixed" if cost.msr in m.FIXED_INDEX else "variable"
        groups["DEF_TYPE" if cost.msr == m.DEF_TYPE else fixed].append(cost.cost_ns)
    for name, values in groups.items():
        if values:
            total, middle, worst = (
                f"{figure / 1000:,.1f}" for figure in (sum(values), median(values), max(values))
            )
            yield name, len(values), total, middle, worst
