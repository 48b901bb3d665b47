"""``mtrrzap record``: boot a guest in QEMU's TCG and record its MTRR and CR0.CD writes."""

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from mtrrzap.cli import output as say
from mtrrzap.cli.options import ForceOption, with_options
from mtrrzap.cli.progress import recording
from mtrrzap.errors import counted
from mtrrzap.guest.record import Recorded, RecordOptions
from mtrrzap.guest.record import record as record_guest
from mtrrzap.guest.record.session import INIT_NOTE
from mtrrzap.guest.record.settings import check

_INTERRUPTED = "interrupted by SIGINT"


@dataclass(frozen=True, kw_only=True)
class BootOptions:
    """The guest, and what it boots."""

    firmware: Annotated[str, typer.Option(help="seabios, ovmf, or the path of an image.")] = (
        "seabios"
    )
    vcpus: Annotated[int, typer.Option(help="Number of vCPUs.")] = 1
    memory: Annotated[str, typer.Option(help="Guest memory, for example 512M or 16G.")] = "1G"
    kernel: Annotated[
        Path | None, typer.Option(help="Linux image to boot; without one, only firmware runs.")
    ] = None
    initrd: Annotated[
        Path | None, typer.Option(help="The image's initrd; make one with 'mtrrzap initrd'.")
    ] = None
    append: Annotated[
        str | None,
        typer.Option(
            help="The kernel's command line; nokaslr is added. [default: console=ttyS0 nokaslr]"
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class QemuOptions:
    """How QEMU runs it."""

    timeout: Annotated[float, typer.Option(help="Seconds that each pass may take.")] = 300.0
    qemu: Annotated[str, typer.Option(help="QEMU to use, 7.2 or newer.")] = "qemu-system-x86_64"
    console: Annotated[
        Path | None, typer.Option(help="Save what the guest prints on its serial port.")
    ] = None
    host_writes: Annotated[
        Literal["qemu", "none"],
        typer.Option(help="Add the MTRR writes that QEMU makes on KVM, or none."),
    ] = "qemu"


@with_options
def record(
    output: Annotated[Path, typer.Option("--output", "-o", help="The trace to write.")],
    guest: BootOptions,
    emulator: QemuOptions,
    force: ForceOption = False,
    extra: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- QEMU_ARGUMENT", help="Options for QEMU."),
    ] = None,
) -> None:
    """Record a guest's MTRR and PAT writes and its changes of CR0.CD, on every vCPU.

    Arguments after -- go to QEMU. The trace is valid however the recording ends; exit status 1
    means that it is marked incomplete. It grows in OUTPUT.part, which gets the name OUTPUT at the
    end; an existing OUTPUT is replaced only by a complete trace.
    """
    more = {"host_writes": emulator.host_writes == "qemu", "extra": tuple(extra or ())}
    given = vars(guest) | vars(emulator) | more
    options = RecordOptions(output=output, force=force, **given)
    check(options)
    if options.kernel is None:
        say.note(
            "note: without --kernel only the firmware runs, and does not end by itself: each of "
            f"at least two passes ends after {options.timeout:g} s (--timeout)"
        )
    with recording(options.vcpus) as progress:
        outcome = record_guest(with_command(options), progress)
    for note in outcome.header.notes:
        if note != INIT_NOTE:
            say.note(f"note: {note}")
    if outcome.incomplete is not None:
        kept = "" if outcome.output == output else f"; {output} is kept as it was"
        events = f"incomplete after {counted(outcome.events, 'event')}"
        say.note(f"{outcome.output}: {events}: {outcome.incomplete}{kept}")
        raise typer.Exit(130 if outcome.incomplete.endswith(_INTERRUPTED) else 1)
    say.result(summary(output, outcome))


def summary(output: Path, outcome: Recorded) -> str:
    """Return the line that ends a successful recording."""
    header = outcome.header
    events, vcpus = counted(outcome.events, "event"), counted(header.vcpus, "vCPU")
    stops = counted(outcome.stops, "stop")
    return (
        f"{output}: {events} of {vcpus}, {header.firmware}, "
        f"{header.guest_kernel} ({outcome.passes + 1} passes, {stops})"
    )


def with_command(options: RecordOptions) -> RecordOptions:
    """Return the options with the command line that says the same, for the trace's header."""
    words = ["mtrrzap", "record", "-o", str(options.output), "--firmware", options.firmware]
    words += ["--vcpus", str(options.vcpus), "--memory", options.memory]
    for name in ("kernel", "initrd", "append", "console"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    default = RecordOptions(options.output)
    if options.timeout != default.timeout:
        words += ["--timeout", f"{options.timeout:g}"]
    if options.qemu != default.qemu:
        words += ["--qemu", options.qemu]
    words += [] if options.host_writes else ["--host-writes", "none"]
    words += ["--force"] if options.force else []
    words += ["--", *options.extra] if options.extra else []
    return replace(options, command=" ".join(quoted(word) for word in words))


def quoted(word: str) -> str:
    """Quote a word for the shell, on one line and in UTF-8 whatever is in it."""
    data = os.fsencode(word)
    if word.isprintable() and data.decode("utf-8", "replace") == word:
        return shlex.quote(word)
    text = word.replace("\\", "\\\\").replace("'", "\\'")
    escaped = "".join(
        char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
        for char in text
    )
    return f"$'{escaped}'"
