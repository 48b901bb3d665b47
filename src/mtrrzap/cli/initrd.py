"""``mtrrzap initrd``: make the initrd that recordings use."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.cli import output as say
from mtrrzap.cli.options import STDOUT, ForceOption, with_options
from mtrrzap.errors import UserError
from mtrrzap.guest.busybox import build, is_static_elf
from mtrrzap.guest.files import distinct, readable, writable
from mtrrzap.reading import whole

_MEND = "install a static one (Debian: apt install busybox-static) or name it with --busybox"


@with_options
def initrd(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The initrd to write; - is standard output.")
    ],
    busybox: Annotated[Path, typer.Option(help="A static busybox.")] = Path("/bin/busybox"),
    force: ForceOption = False,
) -> None:
    """Make an initrd that prints the guest's /proc/mtrr and powers off."""
    readable(busybox, "--busybox", _MEND)
    program = whole(busybox, _MEND, mib=64)
    if not is_static_elf(program):
        raise UserError(f"{busybox} is no static program for x86-64", place="--busybox", mend=_MEND)
    if output == STDOUT:
        sys.stdout.buffer.write(build(program))
        return
    distinct({"--output": output}, {"--busybox": busybox})
    writable(output, "--output", force=force)
    data = build(program)
    say.write(output, data)
    say.result(f"{output}: {len(data):,} bytes")
