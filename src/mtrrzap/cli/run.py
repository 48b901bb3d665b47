"""``mtrrzap run``: a trace for real, on vCPUs of /dev/kvm or on threads."""

import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from mtrrzap.api.traces import rescale
from mtrrzap.cli import output as say
from mtrrzap.cli.options import (
    IntelHostOptions,
    JsonOption,
    VcpusOption,
    read_from,
    unused,
    with_options,
)
from mtrrzap.cli.progress import running, working
from mtrrzap.cli.run_vfio import Chosen, run_vfio
from mtrrzap.emit.native import Counts, storm
from mtrrzap.errors import UserError, counted
from mtrrzap.gfn import parse_size
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import OLDER, POLICIES, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.tdp.levels import PageSize, level_of
from mtrrzap.live.host import Environment, environment
from mtrrzap.live.measure import Engine, RunSettings, measure
from mtrrzap.live.plan import Plan, plan
from mtrrzap.live.running import RunCase
from mtrrzap.live.tally import Run
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.protocol import load as protocols
from mtrrzap.report import text
from mtrrzap.report.live import COUNTED, MODELLED, TIMED, as_data, line, remarks
from mtrrzap.study.live_runs import Measured, measured

USUAL = ("direct", "v4", "review", "ticket")
_LONGEST = 86_400.0
"""Seconds, a day."""
DROPPABLE = (
    *("modelled longest wait", "modelled Mcycles", "modelled zaps"),
    *("ranges", "frames zapped", "longest wait", "requests"),
)
"""Columns left out, in this order, where the terminal is too narrow for all."""
_REQUESTS_OF = "review"
"""Whose requests a protocol is given that is named without a policy: patches 6-8 and 10."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The policies, the test guest, and what its vCPUs do."""

    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            help="A policy; a protocol, for the requests of 'review'; or POLICY:PROTOCOL; "
            f"repeatable. Without: {', '.join(USUAL)}.",
        ),
    ] = None
    engine: Annotated[
        Literal["live", "threads", "native"],
        typer.Option(
            help="live: a real VM. threads: Python's threads with a modelled page table. native: "
            "the protocol's C on threads that ask for random ranges (needs gcc; takes no trace)."
        ),
    ] = "live"
    vcpus: VcpusOption = None
    memory: Annotated[str, typer.Option(help="Memory of the test guest.")] = "64M"
    repeat: Annotated[int, typer.Option("--repeat", "-r", help="Runs of each policy.", min=1)] = 3
    touch: Annotated[
        int, typer.Option(help="Pages that each vCPU touches before every event.", min=1)
    ] = 256
    page_size: Annotated[
        PageSize, typer.Option(help="Pages that back the test guest: 4K or 2M.")
    ] = "4K"
    meet: Annotated[
        bool,
        typer.Option(
            "--meet/--no-meet",
            help="Let vCPUs that act at once make each request at once, as if each had a core.",
        ),
    ] = True
    requests: Annotated[
        int, typer.Option(help="Requests of each thread of the native engine.", min=1)
    ] = 10_000
    zap_ns: Annotated[
        int,
        typer.Option(
            help="Nanoseconds that a zap of the native engine takes.", min=0, max=999_999_999
        ),
    ] = 10_000
    timeout: Annotated[float, typer.Option(help="Seconds for one run, memory filled.")] = 60.0
    vfio: Annotated[
        int | None,
        typer.Option(
            metavar="GROUP",
            help="Let KVM itself make the zaps, for a VM that owns this VFIO group; needs root.",
        ),
    ] = None
    walks: Annotated[
        bool,
        typer.Option("--walks", help="With --vfio: leaves cleared and entries visited; slow."),
    ] = False

    def cases(self) -> list[RunCase]:
        """Return what the policies name. Raises ``UserError``."""
        return [case_of(name) for name in self.policy or USUAL]

    def settings(self) -> RunSettings:
        """Return what the runs are made with. Raises ``UserError``."""
        if self.page_size == "1G":
            raise UserError(
                "a test guest cannot be backed by 1G pages", place="page_size", mend="use 2M"
            )
        if not 0 < self.timeout <= _LONGEST:
            raise UserError(
                f"invalid timeout of {self.timeout:g} s", place="timeout", mend="give 1 to 86400"
            )
        return RunSettings(
            engine=Engine(self.engine),
            memory=parse_size(self.memory),
            touch=self.touch,
            huge=self.page_size == "2M",
            meet=self.meet,
            timeout=self.timeout,
        )


@with_options
def run(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="TRACE",
            help="A trace, or a shipped recording's name; - is standard input.",
            callback=read_from,
        ),
    ] = Path("ovmf-8"),
    *,
    test: RunOptions,
    host: IntelHostOptions,
    json: JsonOption = False,
) -> int:
    """Run a trace's requests for real: vCPUs exit, zaps drop entries, accesses fault."""
    if test.walks and test.vfio is None:
        raise UserError("needs --vfio", place="walks", mend="name the VFIO group")
    if test.vfio is not None and test.engine != "live":
        raise UserError("cannot be combined with --vfio", place="engine", mend="choose one")
    if test.engine == "native":
        of_a_trace = ("file", "memory", "repeat", "touch", "page_size", "meet", "timeout")
        unused("with --engine native", *of_a_trace, "host_maxphyaddr", "quirk")
        return _native(test, json=json)
    unused("without --engine native", "requests", "zap_ns")
    if test.vfio is not None:
        unused("with --vfio", "repeat", "touch", "meet", "timeout", "host_maxphyaddr")
    settings = test.settings()
    trace = rescale(file, vcpus=test.vcpus)
    if test.vfio is not None:
        chosen = Chosen(test.vfio, settings.memory, settings.huge, host.quirk, test.walks)
        return run_vfio(str(file), trace, chosen, test.policy, json=json)
    cases, around = test.cases(), environment()
    runs, early = _measured(cases, plan(trace), host.host(), settings, test.repeat)
    made = [(case, each) for case, each in zip(cases, runs, strict=True) if each]
    rows = measured(trace, host.host(), level_of(test.page_size), made)
    why = early if isinstance(early, UserError) else "interrupted"
    wanted = counted(test.repeat * len(cases), "run")
    ended = f"{why} after {sum(map(len, runs))} of {wanted}" if early else None
    if rows or ended is None:
        _Runs(str(file), trace, settings, around, rows).show(ended, json=json)
    if isinstance(early, UserError):
        raise early
    if ended is not None:
        say.note(f"mtrrzap: {ended}")
        return 130
    return int(any(True for row in rows for _ in row.findings))


class _Runs(NamedTuple):
    name: str
    trace: Trace
    settings: RunSettings
    around: Environment
    rows: list[Measured]

    def show(self, ended: str | None, *, json: bool) -> None:
        if json:
            sys.stdout.write(text.as_json(self._data() | {"ended": ended}))
            return
        console = text.console()
        columns, cells = (*COUNTED, *TIMED, *MODELLED), [line(row) for row in self.rows]
        vcpus, mib = counted(self.trace.header.vcpus, "vCPU"), self.settings.memory >> 20
        title = f"{self.name}, {vcpus}, {mib} MiB; medians, times in ms"
        numbers = frozenset(columns) - {"policy"}
        text.print_table(console, columns, cells, title=title, numbers=numbers, droppable=DROPPABLE)
        for remark in remarks(*self):
            text.say(console, remark)

    def _data(self) -> dict[str, object]:
        return {
            "trace": self.name,
            "vcpus": self.trace.header.vcpus,
            "incomplete": self.trace.incomplete,
            "settings": asdict(self.settings),
            "host": self.around._asdict(),
            "units": {"times": "seconds", "memory": "bytes", "frames": "4 KiB"},
            "rows": [as_data(row) for row in self.rows],
        }


def _measured(
    cases: list[RunCase], divided: Plan, where: Host, settings: RunSettings, repeat: int
) -> tuple[list[list[Run]], KeyboardInterrupt | UserError | None]:
    """Return each case's runs, and what ended the last one early: those before it are kept."""
    runs: list[list[Run]] = [[] for _ in cases]
    try:
        with ExitStack() as stack:
            for case in cases:
                if case.protocol.name not in PROTOCOLS:
                    stack.enter_context(protocols.blamed(Path(case.protocol.source)))
            show = stack.enter_context(running([len(mine) for mine in divided.items], repeat))
            for index, made in measure(
                cases, divided, where, settings, repeat=repeat, progress=show
            ):
                runs[index].append(made)
    except (KeyboardInterrupt, UserError) as early:
        return runs, early
    return runs, None


def _native(test: RunOptions, *, json: bool) -> int:
    """Run the C of each case's protocol; a lost zap is a finding."""
    threads = test.vcpus or 8
    protocols_ = {case.protocol.name: case.protocol for case in test.cases()}
    rows: list[tuple[str, Counts]] = []
    with working("compiling the first protocol") as now:
        for name, each in protocols_.items():
            now(f"{name}, {len(rows) + 1} of {len(protocols_)} protocols")
            rows.append((name, storm(each, threads, test.requests, zap_ns=test.zap_ns)))
    if json:
        data = [{"protocol": name} | counts._asdict() for name, counts in rows]
        sys.stdout.write(text.as_json({"engine": "native", "zap_ns": test.zap_ns, "rows": data}))
    else:
        columns = ("protocol", "requests", "zaps", "shared", "waited", "lost", "seconds")
        cells = [
            (name, *(getattr(c, column) for column in columns[1:-1]), f"{c.seconds:.3f}")
            for name, c in rows
        ]
        console = text.console()
        title = f"C on {threads} threads, {test.requests:,} requests each, random ranges"
        dropped = ("waited", "shared", "seconds")
        text.print_table(
            console, columns, cells, title=title, numbers=columns[1:], droppable=dropped
        )
        slept = f", each of which sleeps {test.zap_ns:,} ns" if test.zap_ns else ""
        text.say(console, _NATIVE.format(slept=slept))
    return int(any(counts.lost for _, counts in rows))


_NATIVE = (
    "Counted, but for seconds, which are measured. zaps: calls of kvm_zap_gfn_range(){slept}; "
    "shared: requests without a zap of their own; lost: requests that returned although no zap of "
    "one of their frames had begun and ended since they asked."
)


def case_of(name: str) -> RunCase:
    """Return what ``--policy`` names. Raises ``UserError``."""
    first, colon, second = name.partition(":")
    names = [each.name for each in (*POLICIES, *OLDER)]
    if colon and (first in names or first.startswith("+")):
        chosen, protocol = by_name(first), protocols.load(second)
    elif name in names or name.startswith("+"):
        chosen = by_name(name)
        protocol = PROTOCOLS[chosen.protocol]
    elif name in PROTOCOLS or colon:
        chosen, protocol = by_name(_REQUESTS_OF), protocols.load(name)
    else:
        raise UserError(
            f"neither a policy nor a protocol is called {name!r}",
            place="--policy",
            mend=f"policies are {', '.join(names)}; protocols {', '.join(PROTOCOLS)}",
        )
    return RunCase(name, replace(chosen, protocol=protocol.name), protocol)
