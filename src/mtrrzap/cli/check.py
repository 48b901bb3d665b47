"""``mtrrzap check``: every interleaving of a protocol, and a counterexample for a mail."""

from __future__ import annotations

import json
import math
import shlex
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from mtrrzap.checker.check import PROPERTIES, Counterexample, Options, Verdict, exit_status
from mtrrzap.checker.continued import continued
from mtrrzap.checker.explore import Progress
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import Request
from mtrrzap.checker.schedule import SIZE, parse_range, replay, written
from mtrrzap.checker.strategies import Pct, RandomWalk, Strategy
from mtrrzap.checker.witness import NAME as WITNESS
from mtrrzap.checker.witness import witness
from mtrrzap.cli.check_any import Asked, Task, allowed, guest_requests, number, verify
from mtrrzap.cli.options import ForceOption, read_from, with_options
from mtrrzap.cli.output import show as say
from mtrrzap.cli.output import write, writing
from mtrrzap.cli.progress import searching, working
from mtrrzap.errors import UserError
from mtrrzap.guest.files import kept
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS
from mtrrzap.protocol.load import blamed, load
from mtrrzap.report import text
from mtrrzap.report.counterexample import WIDTH, drawn
from mtrrzap.report.findings import findings
from mtrrzap.report.verdicts import as_json, table

Results = list[tuple[str, list[Verdict]]]

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Protocols by name, or path/to/file.py:function. Default: all."),
]
Vcpus = Annotated[
    str,
    typer.Option("--vcpus", "-n", help="How many vCPUs; any: a proof for every number of them."),
]
Requests = Annotated[int, typer.Option("--requests", "-r", help="Requests of each vCPU.")]
Ranges = Annotated[
    list[str] | None,
    typer.Option(
        "--range",
        help="What a request asks for: START-END in gfns, several with commas. Given several "
        "times: vCPU i takes the i-th, and so on in turn. Default: everything.",
    ),
]
AllocFails = Annotated[
    bool, typer.Option(help="Whether an allocation may fail, where the protocol makes any.")
]
MemoryModel = Annotated[
    str, typer.Option("--memory-model", help="sc, or tso (x86's store buffers).")
]
OldMemory = Annotated[str | None, typer.Option("--memory", hidden=True)]
Property = Annotated[
    list[str] | None,
    typer.Option("--property", "-p", help=f"Only these of: {', '.join(PROPERTIES)}."),
]
StrategyName = Annotated[
    str, typer.Option("--strategy", help="bfs: every interleaving. random, pct: some.")
]
Runs = Annotated[int, typer.Option(help="Executions of random and pct.")]
Seed = Annotated[int, typer.Option(help="Seed of random and pct.")]
MaxStates = Annotated[int | None, typer.Option(help="Stop each search after so many states.")]
MaxSeconds = Annotated[float | None, typer.Option(help="Stop each search after so many seconds.")]
MaxGb = Annotated[float, typer.Option(help="Stop a search whose states take so many gigabytes.")]
First = Annotated[
    bool, typer.Option("--first", help="Stop as soon as all that was asked for is violated.")
]
Symmetry = Annotated[
    bool, typer.Option(help="Merge states that differ only in which equal vCPU is which.")
]
Engine = Annotated[str, typer.Option(help="auto, python or numba.")]
Replay = Annotated[
    Path | None,
    typer.Option(
        "--replay",
        help="Run this schedule file (- is stdin) again; if it names a file, give that as well.",
        callback=lambda file: file and read_from(file),
    ),
]
Continue = Annotated[
    bool,
    typer.Option(
        "--continue", help="With --replay: then explore every interleaving from the schedule's end."
    ),
]
Witness = Annotated[
    bool, typer.Option("--witness", help="Also draw an interleaving in which nothing goes wrong.")
]
Schedules = Annotated[
    Path | None, typer.Option(help="Write each counterexample's schedule into this directory.")
]
RequestsOf = Annotated[
    Path | None,
    typer.Option(
        "--requests-of",
        help="Let each call be for any request that this trace, or shipped recording, makes under "
        "--policy.",
    ),
]
PolicyName = Annotated[
    str | None,
    typer.Option("--policy", help="The policy of --requests-of; its protocol is the default."),
]
Certificate = Annotated[
    Path | None,
    typer.Option("--certificate", help="With --vcpus any: write the proof into this file."),
]
Verify = Annotated[Path | None, typer.Option("--verify", help="Verify this certificate.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Brief = Annotated[bool, typer.Option("--brief", help="Print the table only.")]
Show = Annotated[bool, typer.Option("--show", help="Draw every counterexample, not only one.")]
Findings = Annotated[bool, typer.Option("--findings", help="Print docs/findings.md.")]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What is checked: vCPUs, their requests, and the memory model."""

    vcpus: Vcpus = "2"
    requests: Requests = 1
    ranges: Ranges = None
    alloc_fails: AllocFails = True
    memory_model: MemoryModel = "sc"
    memory: OldMemory = None
    requests_of: RequestsOf = None
    policy: PolicyName = None
    certificate: Certificate = None

    def asked(self, kinds: tuple[Request, ...] | None) -> Asked:
        """Return what is asked; ``kinds`` are a guest's requests, if it is for these."""
        return Asked(
            vcpus=number(self.vcpus),
            requests=self.requests,
            kinds=_ranges(self.ranges) if kinds is None else kinds,
            each=kinds is not None,
            alloc_fails=self.alloc_fails,
            memory=self.memory or self.memory_model,
            certificate=self.certificate,
        )


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What is looked for, how, and how long."""

    properties: Property = None
    strategy: StrategyName = "bfs"
    runs: Runs = 1000
    seed: Seed = 0
    max_states: MaxStates = None
    max_seconds: MaxSeconds = None
    max_gb: MaxGb = 8.0
    first: First = False
    symmetry: Symmetry = True
    engine: Engine = "auto"

    def options(self) -> Options:
        """Return the checker's options. Raises ``UserError``."""
        if self.engine not in ("auto", "python", "numba"):
            raise UserError(
                f"no engine is called {self.engine!r}", mend="use auto, python or numba"
            )
        if self.runs < 1:
            raise UserError(f"--runs {self.runs}", mend="ask for at least one")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}", mend="give a number, 0 or more")
        return Options(
            properties=tuple(self.properties or PROPERTIES),
            symmetry=self.symmetry,
            engine=self.engine,
            limits=_limits(self.max_states, self.max_seconds, self.max_gb),
            strategy=_strategy(self.strategy, self.seed),
            runs=self.runs,
            first=self.first,
        )


@with_options
def check(
    protocols: Names = None,
    *,
    model: ModelOptions,
    search: SearchOptions,
    replay_: Replay = None,
    schedules: Schedules = None,
    continue_: Continue = False,
    witness_: Witness = False,
    verify_: Verify = None,
    json_: Json = False,
    brief: Brief = False,
    show: Show = False,
    findings_: Findings = False,
    force: ForceOption = False,
) -> None:
    """Explore every interleaving of the vCPUs, and say which properties hold.

    Exit status: 0 everything asked for holds; 1 something is violated, or a search was cut short
    and so proves nothing; 2 bad usage; 130 Ctrl-C, with what was seen until then.
    """
    if findings_:
        with working("checking every protocol"):
            page = findings()
        sys.stdout.write(page)
        return
    if replay_ is not None:
        if continue_:
            go_on(replay_, protocols or [], search.options(), json_=json_, brief=brief)
        again(replay_, protocols or [])
    if verify_ is not None:
        verify(verify_, protocols or [])
    kinds = None
    if model.requests_of is not None:
        policy, kinds, properties = guest_requests(
            model.requests_of, model.policy, search.properties
        )
        search = replace(search, properties=properties)
        protocols = protocols or [policy.protocol]
    names = protocols or list(PROTOCOLS)
    if model.certificate is not None and len(names) > 1:
        raise UserError(
            "a certificate of several protocols", place="certificate", mend="name one protocol"
        )
    if model.certificate is not None:
        kept(model.certificate, "certificate", force=force)
    asked, options = model.asked(kinds), search.options()
    tasks = [asked.task(name, options) for name in names]
    if schedules is not None:
        _make(schedules)
        for name, prop in product(protocols or PROTOCOLS, options.properties):
            kept(_schedule(schedules, name, prop), "schedules", force=force)
    with searching() as progress:
        results = _results(tasks, progress)
    _print(results, json_=json_, brief=brief, every=show)
    if witness_ and not json_:
        _witnesses(names, asked)
    if schedules is not None:
        _write(results, schedules)
    raise typer.Exit(exit_status([each for _, verdicts in results for each in verdicts]))


def _limits(states: int | None, seconds: float | None, gigabytes: float) -> Limits:
    if states is not None and states < 1:
        raise UserError(f"--max-states {states}", mend="ask for at least one, or leave it out")
    for option, value in (("--max-seconds", seconds), ("--max-gb", gigabytes)):
        if value is not None and not 0 <= value < math.inf:
            raise UserError(f"{option} {value}", mend="give a number, 0 or more")
    return Limits(states=states, seconds=seconds, bytes=int(gigabytes * 1e9))


def _results(tasks: list[Task], progress: Progress | None) -> Results:
    """Put every protocol to the properties; after Ctrl-C, none of the rest."""
    results: Results = []
    stopped = False
    for task in tasks:
        if stopped:
            verdicts = task.skipped()
        else:
            with blamed(_file(task.name)):
                verdicts = task.run(replace(task.options, progress=progress))
        results.append((task.name, verdicts))
        stopped = any(each.interrupted for each in verdicts)
    return results


def _file(name: str) -> Path:
    return Path(name.rpartition(":")[0])


def again(path: Path, protocols: list[str]) -> None:
    """Run a schedule file again, draw it, and leave: status 1 if it shows what it says it shows.

    Raises:
        UserError: if a step is not what the protocol does, or the end is another, or it names a
            file that is not among ``protocols``.
    """
    shown = _replayed(path, protocols, shown=True)
    width = min(WIDTH, text.console().width)
    say(drawn(shown, shown.scenario.protocol.name, width))
    raise typer.Exit(1)


def go_on(path: Path, protocols: list[str], options: Options, *, json_: bool, brief: bool) -> None:
    """Run a schedule file, then every interleaving from its end; print the verdicts and leave.

    Raises:
        UserError: if a step is not what the protocol does, or its vCPUs ask for ever, or it
            names a file that is not among ``protocols``.
    """
    shown = _replayed(path, protocols, shown=False)
    name = shown.scenario.protocol.name
    with searching() as progress:
        verdicts = continued(shown, replace(options, progress=progress))
    _print([(name, verdicts)], json_=json_, brief=brief, every=False)
    raise typer.Exit(exit_status(verdicts))


def _replayed(path: Path, protocols: list[str], *, shown: bool) -> Counterexample:
    place, mend = str(path), "name a schedule file"
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE + 1)
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise UserError(problem, place=place, mend=mend) from error
    if len(data) > SIZE:
        raise UserError(f"more than {SIZE >> 20} MiB", place=place, mend=mend)
    schedule = data.decode("utf-8", "replace")
    try:
        return replay(
            schedule, place, lambda name: load(allowed(name, protocols, place)), shown=shown
        )
    except SystemExit as error:
        raise UserError("its protocol exits the program (SystemExit)", place=place) from error


def _witnesses(names: list[str], asked: Asked) -> None:
    """Draw for each protocol an interleaving in which nothing goes wrong."""
    for name in names:
        found = asked.few(name)
        with blamed(_file(name)):
            steps = witness(found)
            shown = f"{name}: no interleaving found in which nothing goes wrong\n"
            if steps is not None:
                width = min(WIDTH, text.console().width)
                shown = drawn(Counterexample(found, WITNESS, steps), name, width)
                shown += "Every call returns when its ranges are zapped.\n"
        say("\n" + shown)


def _strategy(name: str, seed: int) -> Strategy | None:
    if name == "bfs":
        return None
    if name == "random":
        return RandomWalk(seed)
    if name == "pct":
        return Pct(seed)
    raise UserError(f"no strategy is called {name!r}", mend="use bfs, random or pct")


def _ranges(texts: list[str] | None) -> tuple[Request, ...]:
    if not texts:
        return ((ALL_GFNS,),)
    try:
        return tuple(tuple(parse_range(each) for each in text.split(",")) for text in texts)
    except ValueError as error:
        raise UserError(f"--range {error} is no START-END", mend="for example 0x0-0x100") from error


def _print(results: Results, *, json_: bool, brief: bool, every: bool) -> None:
    """Print the table, and the counterexamples; where there are several, say how to see them."""
    if json_:
        sys.stdout.write(json.dumps(as_json(results), indent=1) + "\n")
        return
    width = min(WIDTH, text.console().width)
    say(table(results, width))
    found = [
        (name, verdict.prop, verdict.counterexample)
        for name, verdicts in results
        for verdict in verdicts
        if verdict.counterexample
    ]
    if brief or not found:
        return
    if len(found) > 1 and not every:
        name, prop, _ = found[0]
        one = shlex.join((name, "-p", prop))
        said = f"{len(found)} counterexamples: --show draws all; name one to see it: {one}"
        say("\n")
        text.say(text.console(), said)
        return
    for name, _, counterexample in found:
        with blamed(_file(name)):
            say("\n" + drawn(counterexample, name, width))


def _write(results: Results, into: Path) -> None:
    for name, verdicts in results:
        for verdict in verdicts:
            if verdict.counterexample:
                steps = written(verdict.counterexample, name)
                write(_schedule(into, name, verdict.prop), [steps])


def _schedule(into: Path, name: str, prop: str) -> Path:
    stem = Path(name.rpartition(":")[0]).stem if name.endswith(".py") else name
    stem = stem.replace("/", "_").replace(":", "_")
    return into / f"{stem}.{prop.replace(' ', '-')}.schedule"


def _make(directory: Path) -> None:
    """Make the directory of the schedules before the search, so that none is in vain."""
    with writing(directory, "name a directory"):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
