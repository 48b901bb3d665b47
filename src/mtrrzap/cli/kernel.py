"""``mtrrzap kernel``: what a real kernel does, beside what a policy says."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from mtrrzap.cli.emit import rule_of
from mtrrzap.cli.options import ForceOption, JsonOption, TracesArgument, with_options
from mtrrzap.cli.output import result
from mtrrzap.cli.progress import comparing, working
from mtrrzap.emit.translate import translate
from mtrrzap.errors import UserError, counted, docs_page
from mtrrzap.guest import open as traces
from mtrrzap.guest.files import kept
from mtrrzap.guest.trace import Trace
from mtrrzap.kernel import boot, build, image, policy_file, storm
from mtrrzap.kernel.compare import cases, events
from mtrrzap.kernel.compare import compare as compared
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kvm.policy import Policy
from mtrrzap.protocol import Protocol
from mtrrzap.protocol.load import load
from mtrrzap.report import kernel as report
from mtrrzap.report import text

_LONG = 100_000
_LONG_VCPUS, _LONG_WIDTHS = (2, 4), (36, 39, 40)
_LIMIT, _LONG_LIMIT, _LONGEST = 300.0, 3600.0, 86_400.0
"""Seconds."""
_MOST_VCPUS = 64

app = typer.Typer(
    help="Let a real kernel make the zaps, and compare them with a policy's.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@dataclass(frozen=True, kw_only=True)
class HostOptions:
    """The emulated host and its kernel."""

    kernel: Annotated[
        Path | None, typer.Option(help="A kernel image. Without: Debian's, fetched by apt-get.")
    ] = None
    modules_dir: Annotated[
        Path | None, typer.Option(help="Its modules: the folder named like 'uname -r'.")
    ] = None
    package: Annotated[
        str | None, typer.Option(help="The Debian package to fetch: linux-image-...-amd64.")
    ] = None
    modules: Annotated[
        Path | None, typer.Option(help="A folder with a kvm.ko and kvm-amd.ko of your own.")
    ] = None
    qemu: Annotated[str, typer.Option(help="QEMU for x86-64.")] = "qemu-system-x86_64"

    def host(self) -> boot.Host:
        """Return the host, its kernel fetched if need be. Raises ``UserError``."""
        host = boot.Host(self.kernel_of(), own_modules=self.modules, qemu=self.qemu)
        boot.check(host)
        return host

    def kernel_of(self) -> image.Kernel:
        """Return the kernel, fetched if need be. Raises ``UserError``."""
        if self.kernel is None:
            if self.modules_dir is not None:
                raise UserError(
                    "needs --kernel", place="modules_dir", mend="add the kernel's image"
                )
            return image.debian(self.package)
        if self.package is not None:
            raise UserError("cannot be combined with --kernel", place="package", mend="choose one")
        return image.at(self.kernel, self.modules_dir)


@dataclass(frozen=True, kw_only=True)
class EventOptions:
    """What happens beside the traces."""

    random: Annotated[int, typer.Option(help="Random events beside the traces.", min=0)] = 3000
    seed: Annotated[int, typer.Option(help="Seed of the random events.", min=0)] = 1
    long: Annotated[
        bool,
        typer.Option(
            "--long", help=f"{_LONG:,} random events: 2 and 4 vCPUs, MAXPHYADDR 36, 39 and 40."
        ),
    ] = False
    guest: Annotated[
        list[str] | None,
        typer.Option(metavar="seabios", help="Also let QEMU boot this firmware and Linux; slow."),
    ] = None
    guest_vcpus: Annotated[
        list[int] | None, typer.Option(help="vCPUs of such a guest; repeatable. Default: 2.")
    ] = None

    def traces(self) -> list[tuple[str, Trace]]:
        """Return the random traces, by name."""
        if not self.long:
            one = random_trace(self.seed, self.random)
            return [(f"random, seed {self.seed}", one)] if self.random else []
        kinds = [(vcpus, width) for vcpus in _LONG_VCPUS for width in _LONG_WIDTHS]
        each = -(-_LONG // len(kinds))
        return [
            (
                f"random, {vcpus} vCPUs, MAXPHYADDR {width}",
                random_trace(self.seed + number, each, vcpus, width),
            )
            for number, (vcpus, width) in enumerate(kinds)
        ]

    def guests(self) -> list[int]:
        """Return the number of vCPUs of each whole guest. Raises ``UserError``."""
        for name in self.guest or ():
            if name == "ovmf":
                raise UserError(
                    f"OVMF ends QEMU's TCG in most boots ({docs_page('kernel')})",
                    place="guest",
                    mend="let its recording be performed: ovmf-8",
                )
            if name != "seabios":
                raise UserError(f"unknown firmware {name!r}", place="guest", mend="use seabios")
        vcpus = self.guest_vcpus or [2]
        if not all(1 <= each <= _MOST_VCPUS for each in vcpus):
            raise UserError("invalid number", place="guest_vcpus", mend=f"use 1 to {_MOST_VCPUS}")
        return sorted(set(vcpus)) if self.guest else []


@app.command("compare")
@with_options
def compare(
    files: TracesArgument = None,
    *,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            help="A policy's name, or a TOML file with one. Without: that of 'kernel build', or of "
            "the kernel's version.",
        ),
    ] = None,
    host: HostOptions,
    happens: EventOptions,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for all; 300 without, 3600 with --long.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Run traces on a real KVM in an emulated host, and compare its zaps with a policy's.

    Exit status 1 if they differ anywhere, or if a control does not come out as it must.
    """
    limit = (_LONG_LIMIT if happens.long else _LIMIT) if timeout is None else timeout
    if not 0 < limit <= _LONGEST:
        raise UserError(f"invalid limit of {limit:g} s", place="timeout", mend="give 1 to 86400")
    chosen = None if policy is None else policy_file.named(policy)
    whole = happens.guests()
    wanted = cases([*traces.load_all(files or ()), *happens.traces()])
    with working("looking for the kernel"):
        where = host.host()
    if chosen is None and where.own_modules and (where.own_modules / build.RULE).is_file():
        chosen = policy_file.load(where.own_modules / build.RULE)
    if chosen is None:
        chosen = policy_file.of_version(where.kernel.version)
    with comparing(events(wanted)) as progress:
        outcome = compared(wanted, chosen, where, whole=whole, timeout=limit, progress=progress)
    if json:
        sys.stdout.write(text.as_json(report.as_data(outcome)))
    else:
        report.print_outcome(text.console(), outcome)
    return int(not outcome.same)


ProtocolArgument = Annotated[
    str, typer.Argument(help="A protocol's name, or path/to/file.py:function.")
]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What KVM is built from."""

    source: Annotated[
        Path | None,
        typer.Option(help="A kernel source tree, or an archive. Without: Debian's, fetched."),
    ] = None
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            help="Whose rule of when to ask. Without: the protocol's own policy, or Base2.",
        ),
    ] = None
    window: Annotated[
        int,
        typer.Option(
            metavar="US", help="Delay each store that clears a flag, for tests.", min=0, max=1000
        ),
    ] = 0

    def make(self, protocol: Protocol, release: str, output: Path) -> Policy:
        """Build the modules into a folder, and return the rule. Raises ``UserError``."""
        rule = rule_of(protocol, self.policy)
        source = build.tree(self.source, release)
        build.build(protocol, rule, source, release, output, window_us=self.window)
        return rule


@app.command("build")
@with_options
def build_(
    protocol: ProtocolArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the modules.")],
    *,
    host: HostOptions,
    made: BuildOptions,
    force: ForceOption = False,
) -> None:
    """Build kvm.ko and kvm-amd.ko with a protocol in them, for 'compare --modules' and 'storm'."""
    for name in (*build.MODULES, build.RULE):
        kept(output / name, "output", force=force)
    chosen = load(protocol)
    with working("looking for the kernel") as now:
        kernel = host.kernel_of()
        now(f"building modules for {kernel.release}")
        rule = made.make(chosen, kernel.release, output)
    names = " and ".join(build.MODULES)
    result(f"{output}: {names} for {kernel.release}, {protocol} by the rule of {rule.name}")


@app.command("storm")
@with_options
def storm_(
    protocol: ProtocolArgument,
    vcpus: Annotated[
        int, typer.Option("--vcpus", "-n", help="How many vCPUs ask at once.", min=1, max=64)
    ] = 2,
    count: Annotated[
        int,
        typer.Option("--count", "-c", help="Requests of each vCPU.", min=1, max=1_000_000),
    ] = 2000,
    *,
    host: HostOptions,
    made: BuildOptions,
    timeout: Annotated[float, typer.Option(help="Seconds for all.")] = _LIMIT,
    json: JsonOption = False,
) -> int:
    """Let vCPUs of a real KVM ask at once; count requests, zaps and lost requests by its trace.

    Without --modules KVM is built first. Exit status 1 if a request returned before its zap.
    """
    if not 0 < timeout <= _LONGEST:
        raise UserError(f"invalid limit of {timeout:g} s", place="timeout", mend="give 1 to 86400")
    chosen = load(protocol)
    with (
        working("looking for the kernel") as now,
        TemporaryDirectory(prefix="mtrrzap-kvm-") as folder,
    ):
        where = host.host()
        if where.own_modules is None:
            now(f"building modules for {where.kernel.release}")
            made.make(chosen, where.kernel.release, Path(folder))
            where = replace(where, own_modules=Path(folder))
        entry = translate(chosen).entry.name
        now(f"{counted(vcpus, 'vCPU')} ask {count:,} times each in an emulated host")
        found = storm.storm(where, entry, vcpus, count, timeout=timeout)
    if json:
        sys.stdout.write(text.as_json({"protocol": chosen.name} | found._asdict()))
    else:
        report.print_storm(text.console(), chosen.name, found)
    return int(found.lost > 0)
