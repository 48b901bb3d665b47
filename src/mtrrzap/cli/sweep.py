"""``mtrrzap sweep SPEC`` runs a grid of cells, ``mtrrzap sweep show RESULTS`` shows the rows."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mtrrzap.cli.options import read_from, with_options
from mtrrzap.cli.output import note, result
from mtrrzap.cli.progress import sweeping
from mtrrzap.cli.sweep_show import sweep_show
from mtrrzap.errors import UserError, counted, docs_page
from mtrrzap.sweep import inputs as sweep_inputs
from mtrrzap.sweep.driver import Driver, Executor, SweepState
from mtrrzap.sweep.grid import CHECK
from mtrrzap.sweep.spec import Spec
from mtrrzap.sweep.store import Store
from mtrrzap.sweep.worker import Job

SpecArgument = Annotated[
    Path,
    typer.Argument(
        help=f"The sweep's specification, in TOML ({docs_page('sweep')}); - is standard input.",
        callback=read_from,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Directory for the results; an unfinished sweep in it is continued."
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT. Default: this machine."),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes", "-j", help="Processes on this machine. Default: one a core.", min=1, max=1024
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress.")]


@with_options
def sweep(
    spec: SpecArgument,
    output: Output,
    *,
    scheduler: Scheduler = None,
    processes: Processes = None,
    retry_failed: RetryFailed = False,
    quiet: Quiet = False,
) -> None:
    """Run the missing cells of a sweep.

    Exit status: 0 every cell has a row; 1 cells failed, or a property is violated; 2 bad usage;
    130 Ctrl-C: running cells are finished, and the same command continues.
    """
    if scheduler is not None and processes is not None:
        raise UserError("--scheduler and --processes cannot be combined", mend="choose one")
    asked, job, manifest, text = sweep_inputs.job(spec)
    store = Store(output, asked.grid.kind, note)
    try:
        store.open(manifest, text)
        driver = Driver(job, store, retry_failed=retry_failed)
        interrupted = _run(driver, job, scheduler, processes, quiet=quiet)
        if driver.state.complete:
            store.complete()
            if asked.grid.kind == CHECK:
                _schedules(driver, store)
        _ending(driver.state, asked, output, interrupted=interrupted)
    finally:
        store.close()
    if interrupted:
        raise typer.Exit(130)
    raise typer.Exit(int(driver.state.counts.failed + driver.state.counts.violated > 0))


def _run(
    driver: Driver, job: Job, scheduler: str | None, processes: int | None, *, quiet: bool
) -> bool:
    """Run; return whether Ctrl-C came before the end."""
    if driver.state.complete:
        return False
    with _signals() as stopped:
        executor = _executor(job, scheduler, processes, driver.state)
        try:
            with sweeping(executor.says, quiet=quiet) as show:
                driver.run(executor, lambda: bool(stopped), show)
        finally:
            executor.close()
    return not driver.state.complete


def _executor(
    job: Job, scheduler: str | None, processes: int | None, state: SweepState
) -> Executor:
    if scheduler is not None:
        from mtrrzap.sweep.cluster import DaskCluster

        return DaskCluster(job, scheduler)
    from mtrrzap.sweep.local import LocalPool

    cores = len(os.sched_getaffinity(0))
    return LocalPool(job, max(1, min(processes or cores, state.cells - state.counts.rows)))


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Give a list to which the first Ctrl-C or SIGTERM comes; the second one interrupts."""
    stopped: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if stopped:
            raise KeyboardInterrupt
        stopped.append(number)
        note("stopping after the running cells; press Ctrl-C again to stop now")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _schedules(driver: Driver, store: Store) -> None:
    """Keep the smallest counterexample of each protocol, vCPUs and requests as a file."""
    wanted = {number for _, number in driver.violations.values()}
    for row in sorted(store.rows(wanted), key=lambda row: int(row["number"])):
        stem = str(row["protocol"]).rpartition(":")
        name = f"{Path(stem[0]).stem}-{stem[2]}" if stem[0] else stem[2]
        path = store.schedule(f"{name}-{row['vcpus']}x{row['requests']}", str(row["schedule"]))
        vcpus, each = counted(int(row["vcpus"]), "vCPU"), counted(int(row["requests"]), "request")
        steps = counted(int(row["schedule_steps"]), "step")
        which = f"{row['protocol']}, {vcpus}, {each} each"
        result(f"{which}: {row['property']} violated in {steps}: {path}")


def _ending(state: SweepState, asked: Spec, output: Path, *, interrupted: bool) -> None:
    counts = state.counts
    parts = [f"{counts.rows:,} of {state.cells:,} cells: {counts.done:,} done"]
    parts += [f"{counts.refused:,} refused"] if counts.refused else []
    parts += [f"{counts.failed:,} failed"] if counts.failed else []
    parts += [f"{counts.violated:,} violated"] if asked.grid.kind == CHECK else []
    parts += [f"{state.dropped:,} left out (stop-at-first)"] if state.dropped else []
    result(", ".join(parts) + (f"; {state.new:,} of them new" if state.new < counts.rows else ""))
    if interrupted:
        result(f"Interrupted. Finished cells are in {output}; run the same command to continue.")
    else:
        result(f"See 'mtrrzap sweep show {output}'.")


# ---- the group --------------------------------------------------------------------------------


class _RunUnlessNamed(TyperGroup):
    """Takes a first argument that names no command for the spec of a sweep to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name before a spec."""
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunUnlessNamed,
    help="Run a grid of cells, on this machine or on a cluster, and show the results.\n\n"
    "'mtrrzap sweep SPEC.toml -o results/' runs the missing cells, as 'sweep run' does.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(sweep)
app.command("show")(sweep_show)
