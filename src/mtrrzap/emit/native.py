"""Build the user flavour with a C compiler, and run it: the protocol at native speed."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mtrrzap.emit.source import user
from mtrrzap.errors import UserError
from mtrrzap.protocol import Protocol

FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")


class Counts(NamedTuple):
    """What threads did. Counted, but for ``seconds``, which is measured."""

    threads: int
    requests: int
    zaps: int
    """Calls of ``kvm_zap_gfn_range()``."""
    shared: int
    """Requests that made no zap of their own."""
    waited: int
    """Requests that had to wait for a value at least once."""
    lost: int
    """Requests that returned although no zap of one of their frames had begun and ended since."""
    failed_allocations: int
    seconds: float


def compiler() -> str:
    """Return the C compiler.

    Raises:
        UserError: if there is none.
    """
    found = shutil.which("gcc")
    if found is None:
        raise UserError("there is no gcc", mend="install it (Debian: apt install gcc libc6-dev)")
    return found


def ran(
    command: Sequence[str | Path], given: str | None = None, *, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, and return what it printed.

    Raises:
        UserError: if it cannot be run.
    """
    try:
        return subprocess.run(
            command,
            input=given,
            cwd=cwd,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise UserError(f"cannot be run: {error.strerror}", place=str(command[0])) from error


def build(
    protocol: Protocol, directory: Path, *, steps: bool = False, flags: tuple[str, ...] = ()
) -> Path:
    """Write a protocol's C into a directory and compile it; return the program.

    Raises:
        UserError: if there is no compiler, if something has no C, or if the C does not compile.
    """
    source = directory / f"{protocol.name}.c"
    source.write_text(user(protocol, steps=steps), encoding="utf-8")
    program = source.with_suffix("")
    command = [compiler(), *FLAGS, *flags, "-o", str(program), str(source)]
    done = ran(command)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
        raise UserError(f"the C of {protocol.name} does not compile: {first}", place=str(source))
    return program


def storm(
    protocol: Protocol,
    threads: int,
    requests: int,
    *,
    one_in_fails: int = 0,
    seed: int = 0,
    zap_ns: int = 0,
    everything: bool = False,
    flags: tuple[str, ...] = (),
) -> Counts:
    """Have ``threads`` ask ``requests`` times each for random ranges, or for everything.

    One in ``one_in_fails`` allocations fails, none if that is 0. A zap takes ``zap_ns``.

    Raises:
        UserError: as ``build`` does, or if the program does not come to its end.
    """
    with tempfile.TemporaryDirectory() as directory:
        program = build(protocol, Path(directory), flags=flags)
        arguments = map(str, (threads, requests, one_in_fails, seed, zap_ns, int(everything)))
        done = ran([program, *arguments])
    if done.returncode not in (0, 1):
        why = done.stderr.strip().splitlines()[:1] or [f"status {done.returncode}"]
        raise UserError(f"the C of {protocol.name} ends early: {why[0]}")
    return Counts(**json.loads(done.stdout))
