"""Speed-up and overhead of a sweep, and how a swarm does. Wants an idle machine.

Run: python benchmarks/sweep_rate.py [--brief]

The two are of the same cells; a cell of the overhead's sweep takes a few milliseconds.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet

GUEST = "seabios-16"
EQUAL = f"""
kind = "simulate"
[grid]
traces = "{GUEST}"
vcpus = 64
seeds = {{ from = 0, to = 159 }}
policies = "Base2+9"
"""
SMALL = f"""
kind = "simulate"
[grid]
traces = "{GUEST}"
vcpus = 8
seeds = {{ from = 0, to = 199 }}
policies = ["v6.11", "lazy", "Base2", "Base1", "+12"]
"""
SWARM = """
kind = "check"
[grid]
protocols = "{}"
vcpus = 16
seconds = {}
seeds = {{ from = 0, to = {} }}
[check]
properties = "lost zap"
stop-at-first = true
"""


def sweep(folder: Path, name: str, spec: str, *options: str) -> tuple[float, Path, int]:
    """Run a sweep as a user does; return its seconds, its results and its exit status."""
    path, results = folder / f"{name}.toml", folder / name
    path.write_text(spec)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mtrrzap", "sweep", str(path), "-o", str(results), "-q"]
    done = subprocess.run([*command, *options], check=False, capture_output=True)
    seconds = time.perf_counter() - begin
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr.decode())
    return seconds, results, done.returncode


def column(results: Path, name: str, file: str = "cells") -> list[float]:
    values: list[float] = pyarrow.parquet.read_table(results / f"{file}.parquet")[name].to_pylist()
    return values


def speed_up(folder: Path) -> None:
    one, first, _ = sweep(folder, "one", EQUAL, "-j", "1")
    two, second, _ = sweep(folder, "two", EQUAL, "-j", "2")
    same = (first / "cells.parquet").read_bytes() == (second / "cells.parquet").read_bytes()
    print(
        f"{len(column(first, 'number'))} equal cells: 1 process {one:.1f} s, 2 processes "
        f"{two:.1f} s: {one / two:.2f} times as fast (goal: 1.7); results "
        f"{'the same to the bit' if same else 'DIFFER'}"
    )


def overhead(folder: Path) -> None:
    for processes in (1, 2):
        seconds, results, _ = sweep(folder, f"small-{processes}", SMALL, "-j", str(processes))
        own = column(results, "seconds", "timing")
        begin, _, _ = sweep(folder, f"small-{processes}", SMALL)  # nothing to do: the start alone
        extra = (processes * (seconds - begin) - sum(own)) / len(own)
        print(
            f"{len(own)} small cells, {processes} process(es): {1e3 * sum(own) / len(own):.1f} ms "
            f"each, overhead {1e3 * extra:.2f} ms a cell, start of the workers included (goal: 5)"
        )


def swarm(folder: Path, *, brief: bool) -> None:
    seconds, results, status = sweep(folder, "v4", SWARM.format("v4", 1, 9))
    steps = [n for n in column(results, "schedule_steps") if n is not None]
    print(
        f"v4, 16 vCPUs: {'lost zap found' if status == 1 else 'NOTHING FOUND'} in {seconds:.1f} s, "
        f"the whole command (goal: 10); {min(steps, default=0)} steps after minimising"
    )
    cores = len(os.sched_getaffinity(0))
    each, last = (1, cores - 1) if brief else (5, 6 * cores - 1)
    seconds, results, status = sweep(folder, "ticket", SWARM.format("ticket", each, last))
    print(
        f"ticket, 16 vCPUs: {'NOT ' if status else ''}without a finding in {seconds:.0f} s on "
        f"{cores} cores: {sum(column(results, 'executions')):,} executions, "
        f"{sum(column(results, 'steps')):,} steps"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
        speed_up(Path(folder))
        overhead(Path(folder))
        swarm(Path(folder), brief="--brief" in sys.argv)


if __name__ == "__main__":
    main()
