"""``mtrrzap check``: every interleaving of a protocol, and a counterexample for a mail."""

import json
import shlex
import sys
import tempfile
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, cast

import typer

from mtrrzap.api.verdicts import Search, options_of
from mtrrzap.checker.any_number import certificate
from mtrrzap.checker.asked import Asked, CheckTask
from mtrrzap.checker.check import PROPERTIES, Counterexample, Options, Verdict, exit_status
from mtrrzap.checker.continued import continued
from mtrrzap.checker.explore import Progress
from mtrrzap.checker.scenario import Request
from mtrrzap.checker.schedule import parse_range, written
from mtrrzap.checker.witness import NAME as WITNESS
from mtrrzap.checker.witness import witness
from mtrrzap.cli.check_files import guest_requests, replayed, verify
from mtrrzap.cli.check_unused import refuse_unused
from mtrrzap.cli.options import ForceOption, read_from, with_options
from mtrrzap.cli.output import show as say
from mtrrzap.cli.output import write, writing
from mtrrzap.cli.progress import searching, working
from mtrrzap.errors import UserError
from mtrrzap.guest.files import distinct, kept
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS
from mtrrzap.protocol.load import blamed, load
from mtrrzap.report import text
from mtrrzap.report.counterexample import WIDTH, drawn
from mtrrzap.report.findings import findings
from mtrrzap.report.verdicts import as_json, table

Results = list[tuple[str, list[Verdict]]]
ANY = "any"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """What is checked: vCPUs, their requests, and the memory model."""

    vcpus: Annotated[
        str,
        typer.Option(
            "--vcpus", "-n", help="How many vCPUs; any: a proof for every number of them."
        ),
    ] = "2"
    requests: Annotated[int, typer.Option("--requests", "-r", help="Requests of each vCPU.")] = 1
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            help="What a request asks for: START-END in gfns, several with commas. Given several "
            "times: vCPU i takes the i-th, and so on in turn. Default: everything.",
        ),
    ] = None
    alloc_fails: Annotated[
        bool, typer.Option(help="Whether an allocation may fail, where the protocol makes any.")
    ] = True
    memory_model: Annotated[
        str, typer.Option("--memory-model", help="sc, or tso (x86's store buffers).")
    ] = "sc"
    requests_of: Annotated[
        Path | None,
        typer.Option(
            "--requests-of",
            help="Let each call be for any request that this trace, or shipped recording, makes "
            "under --policy.",
        ),
    ] = None
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="The policy of --requests-of; its protocol is the default."),
    ] = None

    def asked(self, kinds: tuple[Request, ...] | None) -> Asked:
        """Return what is asked; ``kinds`` are a guest's requests, if it is for these."""
        return Asked(
            vcpus=_number(self.vcpus),
            requests=self.requests,
            kinds=_ranges(self.ranges) if kinds is None else kinds,
            each=kinds is not None,
            alloc_fails=self.alloc_fails,
            memory=self.memory_model,
        )


def _number(vcpus: str) -> int | None:
    """Return how many vCPUs there are, None for every number."""
    try:
        return None if vcpus == ANY else int(vcpus)
    except ValueError as error:
        raise UserError(
            f"invalid number of vCPUs: {vcpus!r}", place="vcpus", mend=f"give a number, or {ANY}"
        ) from error


def _ranges(texts: list[str] | None) -> tuple[Request, ...]:
    if not texts:
        return ((ALL_GFNS,),)
    try:
        return tuple(tuple(parse_range(each) for each in text.split(",")) for text in texts)
    except ValueError as error:
        raise UserError(
            f"invalid range {', '.join(texts)!r}",
            place="ranges",
            mend="write START-END: for example 0x0-0x100",
        ) from error


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What is looked for, how, and how long."""

    properties: Annotated[
        list[str] | None,
        typer.Option("--property", "-p", help=f"Only these of: {', '.join(PROPERTIES)}."),
    ] = None
    strategy: Annotated[
        str, typer.Option("--strategy", help="bfs: every interleaving. random, pct: some.")
    ] = "bfs"
    runs: Annotated[int, typer.Option(help="Executions of random and pct.")] = 1000
    seed: Annotated[int, typer.Option(help="Seed of random and pct.")] = 0
    max_states: Annotated[
        int | None, typer.Option(help="Stop each search after so many states.")
    ] = None
    max_seconds: Annotated[
        float | None, typer.Option(help="Stop each search after so many seconds.")
    ] = None
    max_gb: Annotated[
        float, typer.Option(help="Stop a search whose states take so many gigabytes.")
    ] = 8.0
    first: Annotated[
        bool, typer.Option("--first", help="Stop as soon as all that was asked for is violated.")
    ] = False
    symmetry: Annotated[
        bool, typer.Option(help="Merge states that differ only in which equal vCPU is which.")
    ] = True
    engine: Annotated[str, typer.Option(help="auto, python, or numba (compiled).")] = "auto"

    def options(self) -> Options:
        """Return the checker's options. Raises ``UserError``."""
        given = {name: value for name, value in vars(self).items() if name != "properties"}
        return options_of(self.properties or None, cast(Search, given))


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Schedules and certificates, read and written."""

    replay: Annotated[
        Path | None,
        typer.Option(
            help="Run this schedule file (- is stdin) again; if it names a file of Python code, "
            "give that as PROTOCOLS.",
            callback=lambda file: file and read_from(file),
        ),
    ] = None
    schedules: Annotated[
        Path | None, typer.Option(help="Write each counterexample's schedule into this directory.")
    ] = None
    continued: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="With --replay: then explore every interleaving from the schedule's end.",
        ),
    ] = False
    certificate: Annotated[
        Path | None, typer.Option(help="With --vcpus any: write the proof into this file.")
    ] = None
    verify: Annotated[
        Path | None, typer.Option(help="Verify this certificate, without the search.")
    ] = None
    force: ForceOption = False

    def prepare(self, names: list[str], asked: Asked, options: Options) -> None:
        """See that all can be written before the search, so that none is in vain."""
        if self.certificate is not None:
            what = "several protocols" if len(names) > 1 else f"{asked.vcpus} vCPUs"
            if len(names) > 1 or asked.vcpus is not None:
                raise UserError(
                    f"a certificate of {what}",
                    place="certificate",
                    mend=f"name one protocol, and ask for {ANY} number of vCPUs",
                )
            distinct(
                {"certificate": self.certificate},
                {f"PROTOCOL {name}": _file(name) for name in names if ":" in name},
            )
            kept(self.certificate, "certificate", force=self.force)
        if self.schedules is not None:
            with writing(self.schedules, "name a directory"):
                self.schedules.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self.schedules):
                    pass
            for name, prop in product(names, options.properties):
                kept(_schedule(self.schedules, name, prop), "schedules", force=self.force)


@dataclass(frozen=True, kw_only=True)
class PrintOptions:
    """What is printed."""

    witness: Annotated[
        bool,
        typer.Option("--witness", help="Also draw an interleaving in which nothing goes wrong."),
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    brief: Annotated[bool, typer.Option("--brief", help="Print the table only.")] = False
    show: Annotated[
        bool, typer.Option("--show", help="Draw every counterexample, not only one.")
    ] = False
    findings: Annotated[bool, typer.Option("--findings", help="Print docs/findings.md.")] = False


@with_options
def check(
    protocols: Annotated[
        list[str] | None,
        typer.Argument(help="Protocols by name, or path/to/file.py:function. Default: all."),
    ] = None,
    *,
    model: ModelOptions,
    search: SearchOptions,
    files: FileOptions,
    shown: PrintOptions,
) -> None:
    """Explore every interleaving of the vCPUs, and say which properties hold.

    Exit status: 0 everything asked for holds; 1 something is violated, or a search was cut short
    and so proves nothing; 2 bad usage; 130 Ctrl-C, with what was seen until then.
    """
    names = protocols or []
    refuse_unused(model, search, files, shown)
    if shown.findings:
        with working("checking every protocol"):
            page = findings()
        sys.stdout.write(page)
        status = 0
    elif files.replay is not None and files.continued:
        status = _go_on(replayed(files.replay, names, shown=False), search.options(), shown)
    elif files.replay is not None:
        status = _again(replayed(files.replay, names, shown=True))
    elif files.verify is not None:
        status = verify(files.verify, names)
    else:
        status = _search(names, model, search, files, shown)
    raise typer.Exit(status)


def _search(
    names: list[str],
    model: ModelOptions,
    search: SearchOptions,
    files: FileOptions,
    shown: PrintOptions,
) -> int:
    """Put every protocol to the properties, and return the exit status."""
    kinds = None
    if model.requests_of is not None:
        with working(f"reading {model.requests_of}"):
            policy, kinds, properties = guest_requests(
                model.requests_of, model.policy, search.properties
            )
        search = replace(search, properties=properties)
        names = names or [policy.protocol]
    names = names or list(PROTOCOLS)
    asked, options = model.asked(kinds), search.options()
    files.prepare(names, asked, options)
    with working("loading the protocols"):
        tasks = [(name, asked.task(load(name), options)) for name in names]
    with searching() as progress:
        results = _results(tasks, progress, files.certificate)
    _print(results, shown)
    if shown.witness and not shown.json:
        _witnesses(names, asked)
    for name, verdict, counterexample in _found(results):
        if files.schedules is not None:
            path = _schedule(files.schedules, name, verdict.prop)
            write(path, [written(counterexample, name)])
    return exit_status([each for _, verdicts in results for each in verdicts])


def _results(
    tasks: list[tuple[str, CheckTask]], progress: Progress, certified: Path | None
) -> Results:
    """Run the tasks; after Ctrl-C, none of the rest."""
    results: Results = []
    stopped = False
    for name, task in tasks:
        if stopped:
            verdicts = task.skipped()
        else:
            with blamed(_file(name)):
                verdicts = task.run(replace(task.options, progress=progress))
        if certified is not None and task.proof is not None:
            write(certified, certificate.encoded(certificate.written(task.proof, name), certified))
        results.append((name, verdicts))
        stopped = any(each.interrupted for each in verdicts)
    return results


def _file(name: str) -> Path:
    return Path(name.rpartition(":")[0])


def _found(results: Results) -> list[tuple[str, Verdict, Counterexample]]:
    return [
        (name, verdict, verdict.counterexample)
        for name, verdicts in results
        for verdict in verdicts
        if verdict.counterexample
    ]


def _schedule(into: Path, name: str, prop: str) -> Path:
    stem = Path(name.rpartition(":")[0]).stem if name.endswith(".py") else name
    stem = stem.replace("/", "_").replace(":", "_")
    return into / f"{stem}.{prop.replace(' ', '-')}.schedule"


# ---- a schedule file ---------------------------------------------------------------------------


def _again(shown: Counterexample) -> int:
    """Draw a schedule that shows what it says it shows."""
    say(drawn(shown, shown.scenario.protocol.name, _width()))
    return 1


def _go_on(begun: Counterexample, options: Options, shown: PrintOptions) -> int:
    """Explore every interleaving from a schedule's end, and print the verdicts."""
    with searching() as progress:
        verdicts = continued(begun, replace(options, progress=progress))
    _print([(begun.scenario.protocol.name, verdicts)], replace(shown, show=False))
    return exit_status(verdicts)


# ---- printing ----------------------------------------------------------------------------------


def _width() -> int:
    return min(WIDTH, text.console().width)


def _print(results: Results, shown: PrintOptions) -> None:
    """Print the table, and the counterexamples; where there are several, say how to see them."""
    if shown.json:
        sys.stdout.write(json.dumps(as_json(results), indent=1) + "\n")
        return
    say(table(results, _width()))
    found = _found(results)
    if shown.brief or not found:
        return
    if len(found) > 1 and not shown.show:
        name, verdict, _ = found[0]
        one = shlex.join((name, "-p", verdict.prop))
        said = f"{len(found)} counterexamples: --show draws all; name one to see it: {one}"
        say("\n")
        text.say(text.console(), said)
        return
    for name, _, counterexample in found:
        with blamed(_file(name)):
            say("\n" + drawn(counterexample, name, _width()))


def _witnesses(names: list[str], asked: Asked) -> None:
    """Draw for each protocol an interleaving in which nothing goes wrong."""
    for name in names:
        found = asked.few(load(name))
        with blamed(_file(name)):
            steps = witness(found)
            shown = f"{name}: no interleaving found in which nothing goes wrong\n"
            if steps is not None:
                shown = drawn(Counterexample(found, WITNESS, steps), name, _width())
                shown += "Every call returns when its ranges are zapped.\n"
        say("\n" + shown)
