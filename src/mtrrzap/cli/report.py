"""``mtrrzap report``: one HTML page about traces, to be read in a browser."""

from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.cli.options import (
    STDOUT,
    ForceOption,
    HostOptions,
    OnePolicyOption,
    TracesArgument,
    with_options,
)
from mtrrzap.cli.output import put, result, write
from mtrrzap.cli.progress import working
from mtrrzap.errors import counted
from mtrrzap.guest import open as traces
from mtrrzap.guest.files import distinct, kept
from mtrrzap.guest.measured_costs import beside
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.tdp.levels import PageSize, level_of
from mtrrzap.report.page import Section, document, section
from mtrrzap.study.checked import checked


@with_options
def report(
    files: TracesArgument = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page to write; - is standard output.")
    ] = Path("report.html"),
    policy: OnePolicyOption = "Base2",
    *,
    host: HostOptions,
    page_size: Annotated[
        PageSize, typer.Option(help="Page size of the fully populated table that zaps walk.")
    ] = "4K",
    force: ForceOption = False,
) -> None:
    """Write one self-contained HTML page about what guests did and what each policy zaps.

    Costs that 'import' has measured and left beside a trace are shown, too.
    """
    if output != STDOUT:
        distinct({"--output": output}, {f"FILE {file.name}": file for file in files or ()})
        kept(output, "--output", force=force)
    shown = by_name(policy)
    where, level = host.host(), level_of(page_size)
    sections: list[Section] = []
    with working("reading traces") as now:
        named = traces.load_all(files or [])
        # Only a file that was named can have costs beside it.
        paths: list[Path | None] = [*files] if files else [None] * len(named)
        for path, (name, trace) in zip(paths, named, strict=True):
            title = name if path is None else path.name.removesuffix(".trace")
            now(f"{title}: trace {len(sections) + 1} of {len(named)}")
            costs = beside(path, trace) if path else ()
            sections.append(section(title, trace, POLICIES, shown, where, level, costs))
        now("writing the page")
        found = checked(shown, (trace for _, trace in named), where)
        page = document(sections, found, assumptions(where, page_size))
    if output == STDOUT:
        put([page])
        return
    write(output, [page])
    count = sum(len(each.trace.events) for each in sections)
    held = f"{counted(len(sections), 'trace')}, {counted(count, 'event')}"
    result(f"{output}: {held}, {len(page):,} characters")


def assumptions(where: Host, page_size: PageSize) -> str:
    """Say of what host the figures are."""
    return (
        f"Host: {'EPT' if where.ept else 'NPT'}, MAXPHYADDR {where.maxphyaddr} bits, "
        f"{'non-coherent' if where.noncoherent_dma else 'coherent'} DMA, "
        f"KVM_X86_QUIRK_CD_NW_CLEARED {'on' if where.quirk_cd_nw_cleared else 'off'}; "
        f"entries and visits with {page_size} pages."
    )
