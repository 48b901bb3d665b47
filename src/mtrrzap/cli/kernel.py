"""``mtrrzap kernel``: what a real kernel does, beside what a policy says."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from mtrrzap.cli.emit import rule_of
from mtrrzap.cli.options import ForceOption, JsonOption, TracesArgument, with_options
from mtrrzap.cli.output import result
from mtrrzap.cli.progress import comparing, working
from mtrrzap.emit import native as threads
from mtrrzap.emit.translate import translate
from mtrrzap.errors import UserError, counted, docs_page
from mtrrzap.guest import open as traces
from mtrrzap.guest.files import kept
from mtrrzap.guest.trace import Trace
from mtrrzap.kernel import boot, build, image, policy_file, storm
from mtrrzap.kernel.compare import compare as compared
from mtrrzap.kernel.compare import events
from mtrrzap.kernel.program import cases
from mtrrzap.kernel.random_events import random_trace
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
    with comparing(events(wanted, where)) as progress:
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

    def make(self, protocol: Protocol | None, release: str, output: Path) -> str:
        """Build the modules into a folder, and say what is in them. Raises ``UserError``."""
        if protocol is None:
            for place, value in (("policy", self.policy), ("window", self.window)):
                if value:
                    raise UserError("needs a protocol", place=place, mend="name one")
            patched, what = None, "the tree's own, with EPT types"
        else:
            rule = rule_of(protocol, self.policy)
            patched = build.Patched(protocol, rule, self.window)
            what = f"{protocol.name} by the rule of {rule.name}"
        build.build(patched, build.tree(self.source, release), release, output)
        return what


@app.command("build")
@with_options
def build_(
    protocol: Annotated[
        str | None,
        typer.Argument(
            help="A protocol to patch in: a name, or path/to/file.py:function. With or without "
            "one KVM says each leaf's EPT type."
        ),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the modules.")],
    host: HostOptions,
    made: BuildOptions,
    force: ForceOption = False,
) -> None:
    """Build kvm.ko and kvm-amd.ko for 'compare --modules' and 'storm'."""
    for name in (*build.MODULES, build.RULE):
        kept(output / name, "output", force=force)
    chosen = None if protocol is None else load(protocol)
    with working("looking for the kernel") as now:
        kernel = host.kernel_of()
        now(f"building modules for {kernel.release}")
        what = made.make(chosen, kernel.release, output)
    result(f"{output}: {' and '.join(build.MODULES)} for {kernel.release}, {what}")


_NATIVE_ZAP_NS = 10_000


@app.command("storm")
@with_options
def storm_(
    protocols: Annotated[
        list[str], typer.Argument(help="Protocols' names, or path/to/file.py:function.")
    ],
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
    timeout: Annotated[float, typer.Option(help="Seconds for each storm.")] = _LIMIT,
    json: JsonOption = False,
) -> int:
    """Let vCPUs of a real KVM ask at once; count requests, zaps and lost requests by its trace.

    Beside it the same C runs on as many threads. Without --modules KVM is built first. Exit status
    1 if a request of the kernel's returned before its zap.
    """
    if not 0 < timeout <= _LONGEST:
        raise UserError(f"invalid limit of {timeout:g} s", place="timeout", mend="give 1 to 86400")
    if host.modules is not None and len(protocols) > 1:
        raise UserError("holds one protocol", place="modules", mend="name that one alone")
    chosen = [load(each) for each in protocols]
    found = []
    with working("looking for the kernel") as now:
        where = host.host()
        for each in chosen:
            one = _stormed(each, where, made, vcpus, count, timeout, now)
            counts = None
            if shutil.which("gcc"):  # modules that are there do not need it
                now(f"{each.name}: the same on threads")
                counts = threads.storm(
                    each, vcpus, count, zap_ns=_NATIVE_ZAP_NS, everything=True
                )._asdict()
            found.append(report.Storms(each.name, one, counts))
    if json:
        data = [report.storm_data(each) for each in found]
        sys.stdout.write(text.as_json(data if data[1:] else data[0]))
    else:
        report.print_storms(text.console(), found, _NATIVE_ZAP_NS)
    return int(any(each.kernel.lost for each in found))


def _stormed(
    protocol: Protocol,
    host: boot.Host,
    made: BuildOptions,
    vcpus: int,
    count: int,
    timeout: float,
    now: Callable[[str], None],
) -> storm.Storm:
    with TemporaryDirectory(prefix="mtrrzap-kvm-") as folder:
        if host.own_modules is None:
            now(f"{protocol.name}: building modules for {host.kernel.release}")
            made.make(protocol, host.kernel.release, Path(folder))
            host = replace(host, own_modules=Path(folder))
        functions = [each.name for each in reversed(translate(protocol).functions)]
        now(f"{protocol.name}: {counted(vcpus, 'vCPU')} ask {count:,} times each")
        return storm.storm(host, functions, vcpus, count, timeout=timeout)
