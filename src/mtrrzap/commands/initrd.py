"""``mtrrzap initrd``: make the initrd that recordings use."""

from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.errors import UserError
from mtrrzap.guest.initrd import build, is_static_elf

_MEND = "install a static one (Debian: apt install busybox-static) or name it with --busybox"


def initrd(
    output: Annotated[Path, typer.Option("--output", "-o", help="The initrd to write.")],
    busybox: Annotated[Path, typer.Option(help="A static busybox.")] = Path("/bin/busybox"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Make an initrd that prints the guest's /proc/mtrr and powers off."""
    try:
        program = busybox.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {busybox}: {error.strerror}", place="--busybox", mend=_MEND
        ) from error
    if not is_static_elf(program):
        raise UserError(f"{busybox} is no static program", place="--busybox", mend=_MEND)
    if output.exists() and not force:
        raise UserError(
            f"{output} exists already", place="--output", mend="choose another name or add --force"
        )
    data = build(program)
    try:
        output.write_bytes(data)
    except OSError as error:
        raise UserError(
            f"cannot write {output}: {error.strerror}",
            place="--output",
            mend="choose a file in a directory that exists and that you may write to",
        ) from error
    typer.echo(f"{output}: {len(data)} bytes")


if __name__ == "__main__":
    try:
        typer.run(initrd)
    except UserError as problem:
        typer.echo(f"mtrrzap: {problem}", err=True)
        raise SystemExit(2) from None
