"""Options that several commands share, and what they mean."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.errors import UserError
from mtrrzap.guest.trace import MAX_VCPUS, Trace
from mtrrzap.kvm.policy import POLICIES, Policy, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.study.rescale import with_memory, with_vcpus

TracesArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Traces, or names of shipped recordings; all shipped ones if none."),
]
TraceArgument = Annotated[Path, typer.Argument(help="A trace, or a shipped recording's name.")]
CaptureArgument = Annotated[
    Path, typer.Argument(help="A capture's text (also compressed), a trace.dat, a CSV, or -.")
]
PolicyOption = Annotated[
    list[str] | None,
    typer.Option("--policy", "-p", help="A policy's name (see 'mtrrzap policies'); repeatable."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
HostMaxphyaddrOption = Annotated[
    int, typer.Option(help="Host MAXPHYADDR in bits; zaps are clamped to it.", min=32, max=52)
]
QuirkOption = Annotated[
    bool,
    typer.Option("--quirk/--no-quirk", help="KVM_X86_QUIRK_CD_NW_CLEARED; user space's default."),
]
EptOption = Annotated[bool, typer.Option("--ept/--npt", help="Intel EPT or AMD nested paging.")]
NcdOption = Annotated[
    bool, typer.Option("--noncoherent-dma/--coherent-dma", help="A device that does not snoop.")
]
VcpusOption = Annotated[
    int | None,
    typer.Option(
        help="Rescale to so many vCPUs; refused where the trace does not tell.",
        min=1,
        max=MAX_VCPUS,
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(help="Rescale to so much memory, for example 64G; refused where unsound."),
]


class PageSize(StrEnum):
    """A size of page, as the command line writes it."""

    SMALL = "4K"
    LARGE = "2M"
    HUGE = "1G"

    @property
    def level(self) -> int:
        """The level of such a leaf in the page table."""
        return list(PageSize).index(self) + 1


def host(
    maxphyaddr: int,
    *,
    quirk: bool,
    ept: bool,
    noncoherent_dma: bool,
    largest_page: PageSize = PageSize.HUGE,
) -> Host:
    """Return the host that these options describe."""
    return Host(
        maxphyaddr=maxphyaddr,
        quirk_cd_nw_cleared=quirk,
        ept=ept,
        noncoherent_dma=noncoherent_dma,
        largest_page=largest_page.level,
    )


def rescaled(trace: Trace, vcpus: int | None, memory: str | None) -> Trace:
    """Return the trace of a guest with so many vCPUs and so much memory, if sound."""
    if vcpus is not None:
        trace = with_vcpus(trace, vcpus)
    return trace if memory is None else with_memory(trace, size(memory))


def size(text: str) -> int:
    """Return a number of bytes: ``64G``, ``12T``. Raises ``UserError``."""
    units = {"M": 20, "G": 30, "T": 40}
    number, unit = text[:-1], text[-1:].upper()
    if unit not in units or not (number.isascii() and number.isdecimal() and len(number) < 20):
        raise UserError(f"no size: {text!r}", place="--memory", mend="write 512M, 64G or 12T")
    return int(number) << units[unit]


def memory_size(text: str) -> int:
    """Return a guest's memory in bytes: ``16G``, ``512M``, plain bytes, or 0 if it is unknown.

    Raises ``UserError`` unless it is whole pages that 52 bits can address.
    """
    count = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else size(text)
    if count % 4096 or count > 1 << 52:
        raise UserError(
            f"no guest has {text} of memory",
            place="--memory",
            mend="write 512M, 64G or 12T, or bytes that are whole pages",
        )
    return count


def policies(names: list[str] | None) -> tuple[Policy, ...]:
    """Return the named policies in the order given, or all."""
    return tuple(by_name(name) for name in names) if names else POLICIES


def one_format(*, json: bool, csv: bool) -> None:
    """Refuse two output formats at once."""
    if json and csv:
        raise UserError("--json and --csv exclude each other", mend="choose one")
