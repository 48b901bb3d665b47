"""Time to a verdict, states per second and bytes per state: the checker beside SPIN and others.

Whole commands on the same machine, one after the other. SPIN: ``spin -a``, ``gcc -O2``, ``pan``,
with partial-order reduction. The checker: ``python -m mtrrzap check``, with symmetry. The
rates compare the identical step relation: ``pan`` without reduction, the checker without symmetry;
both then store the same states. A rate is that of the search alone, without any compiling; ours
is with all that the search has to learn of the protocol, which ``spin -a`` and ``gcc`` have put
into ``pan``. The two run in turns, and a figure is the mean of the middle half of the runs:
``pan`` measures its time in hundredths of a second.

    python benchmarks/check_vs_spin.py [--quick] [--limit SECONDS] [--rate-only]

``--rate-only`` prints the second table alone, of the sizes that SPIN finishes.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent / "spin"
PROTOCOLS = ("v4", "sketch", "review")
SIZES = ((2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (2, 2), (3, 2), (4, 2), (5, 2))
RUNS, ENOUGH = (3, 15), 5.0
"""Runs that a rate is of, at least and at most; seconds of ``pan`` after which it has enough."""
QUICK = ((2, 1), (4, 1), (3, 2))
RATED = {
    "v4": ((4, 1), (5, 1), (6, 1), (4, 2)),
    "sketch": ((5, 1), (6, 1), (4, 2), (5, 2)),
    "review": ((6, 1), (7, 1), (4, 2), (5, 2)),
}
"""The sizes of 50,000 states and more that SPIN finishes without reduction within a minute."""


@dataclass(frozen=True)
class Run:
    """One whole command: wall-clock seconds, and what its own search said."""

    seconds: float
    states: int
    search: float
    bytes: float
    said: str
    learning: float = 0.0
    """Seconds of ``search`` that tabulated the protocol's steps."""

    @property
    def rate(self) -> float:
        """Millions of states a second, of the search alone."""
        return self.states / self.search / 1e6 if self.search > 0.005 else 0.0


def built(protocol: str, size: tuple[int, int], at: str, *, reduce: bool) -> None:
    """Make SPIN's ``pan`` in a directory."""
    flags = [f"-DN={size[0]}", f"-DR={size[1]}"]
    subprocess.run(
        ["spin", "-a", *flags, str(MODELS / f"{protocol}.pml")], cwd=at, check=True,
        capture_output=True,
    )  # fmt: skip
    how = ["-DSAFETY", "-DMEMLIM=12000", *([] if reduce else ["-DNOREDUCE"])]
    command = ["gcc", "-O2", "-w", *how, "-o", "pan", "pan.c"]
    subprocess.run(command, cwd=at, check=True, capture_output=True)


def panned(at: str, limit: float, started: float) -> Run | None:
    """Run the ``pan`` in a directory; None if it does not end in time or in memory."""
    pan = ["./pan", "-m1000000", "-c0"]
    try:
        done = subprocess.run(
            pan, cwd=at, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return parsed(done.stdout, time.perf_counter() - started)


def spin(protocol: str, size: tuple[int, int], *, reduce: bool, limit: float) -> Run | None:
    """Run SPIN's three commands; None if ``pan`` does not end in time or in memory."""
    with tempfile.TemporaryDirectory() as at:
        started = time.perf_counter()
        built(protocol, size, at, reduce=reduce)
        return panned(at, limit, started)


def parsed(out: str, seconds: float) -> Run | None:
    """Read what ``pan`` printed."""

    def number(pattern: str) -> float:
        found = re.search(pattern, out)
        return float(found[1]) if found else 0.0

    if "Search not completed" in out and "errors: 0" in out:
        return None
    states = int(number(r"(\d+) states, stored"))
    used = number(r"([\d.]+)\s+actual memory usage for states")
    used = used or number(r"([\d.]+)\s+equivalent memory usage for states")
    errors = int(number(r"errors: (\d+)"))
    return Run(
        seconds=seconds,
        states=states,
        search=number(r"elapsed time ([\d.e+-]+)"),
        bytes=used * 1e6 / states if states else 0.0,
        said="VIOLATED" if errors else "holds",
    )


def ours(protocol: str, size: tuple[int, int], *, symmetry: bool) -> Run:
    """Run the checker's whole command for the same properties."""
    command = [
        sys.executable, "-m", "mtrrzap", "check", protocol, "--json", "--no-alloc-fails",
        "-n", str(size[0]), "-r", str(size[1]), "-p", "lost zap", "-p", "deadlock",
    ]  # fmt: skip
    command += [] if symmetry else ["--no-symmetry", "--engine", "numba"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    verdicts = json.loads(done.stdout)
    first = verdicts[0]
    wrong = any(each["verdict"] == "VIOLATED" for each in verdicts)
    return Run(
        seconds=seconds,
        states=first["states"],
        search=first["search_seconds"],
        learning=first["learning_seconds"],
        bytes=first["bytes"] / first["states"],
        said="VIOLATED" if wrong else "holds",
    )


Size = tuple[int, int]


def verdict_table(sizes: tuple[Size, ...], limit: float) -> None:
    """Print whole commands: SPIN with reduction, the checker with symmetry."""
    print("Time to a verdict: whole commands, full searches")
    print(f"{'':18}{'SPIN, reduced':>24}{'mtrrzap check':>24}")
    print(f"{'vCPUs x requests':18}{'states':>14}{'time':>10}{'states':>14}{'time':>10}  verdict")
    for protocol in PROTOCOLS:
        for size in sizes:
            theirs = spin(protocol, size, reduce=True, limit=limit)
            mine = ours(protocol, size, symmetry=True)
            row = _name(protocol, size)
            if theirs is None:
                row += f"{'':14}{f'> {limit:g} s':>10}"
            else:
                row += f"{theirs.states:14,}{theirs.seconds:8.2f} s"
            row += f"{mine.states:14,}{mine.seconds:8.2f} s  {mine.said}"
            if theirs is not None and theirs.said != mine.said:
                row += f", and SPIN says {theirs.said}"
            if theirs is not None and theirs.seconds < mine.seconds:
                row += ", SLOWER"
            print(row, flush=True)
    print()


def rate_table(sizes: dict[str, tuple[Size, ...]], limit: float) -> None:
    """Print the identical step relation: no reduction, no symmetry."""
    print("The identical step relation: SPIN without reduction, the checker without symmetry")
    print(f"{'':18}{'':14}{'million states a second':>42}{'':6}{'bytes a state':>18}")
    columns = f"{'SPIN':>10}{'ours':>10}{'ratio':>8}{'loop':>10}{'ratio':>8}{'runs':>6}"
    print(f"{'':18}{'states':>14}{columns}{'SPIN':>9}{'ours':>9}")
    for protocol, each in sizes.items():
        for size in each:
            row = _rated(protocol, size, limit)
            if row is not None:
                print(f"{_name(protocol, size)}{row}", flush=True)
    print()


def _rated(protocol: str, size: Size, limit: float) -> str | None:
    with tempfile.TemporaryDirectory() as at:
        built(protocol, size, at, reduce=False)
        theirs, mine, loops = [], [], []
        while len(theirs) < RUNS[0] or (len(theirs) < RUNS[1] and sum(theirs) < ENOUGH):
            pan = panned(at, limit, time.perf_counter())
            if pan is None or pan.states < 50_000:
                return None
            us = ours(protocol, size, symmetry=False)
            theirs.append(pan.search)
            mine.append(us.search)
            loops.append(us.search - us.learning)
    their_rate, my_rate, loop = (
        us.states / _middle(seconds) / 1e6 for seconds in (theirs, mine, loops)
    )
    same = f"{us.states:14,}" if us.states == pan.states else "     DIFFERENT"
    row = f"{same}{their_rate:10.2f}{my_rate:10.2f}{my_rate / their_rate:8.1f}"
    row += f"{loop:10.2f}{loop / their_rate:8.1f}{len(mine):6}"
    return f"{row}{pan.bytes:9.0f}{us.bytes:9.0f}"


def _middle(seconds: list[float]) -> float:
    """Return the mean of the middle half."""
    quarter = len(seconds) // 4
    return statistics.mean(sorted(seconds)[quarter : len(seconds) - quarter])


def _name(protocol: str, size: tuple[int, int]) -> str:
    return f"{protocol:8}{size[0]:3} x {size[1]:<4}"


def others() -> None:
    """Print what the Python tools of this kind do, where they are installed."""
    print("Python tools")
    try:
        import other_tools
    except ImportError as error:
        print(f"  {error}")
        return
    for line in other_tools.lines():
        print(f"  {line}", flush=True)


def main() -> None:
    """Print everything."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--rate-only", action="store_true", help="print the second table alone")
    options.add_argument("--limit", type=float, default=60.0, help="seconds that pan may take")
    chosen = options.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}")
    if shutil.which("spin") is None or shutil.which("gcc") is None:
        raise SystemExit("spin or gcc is not installed")
    ours("v4", (5, 1), symmetry=False)  # compiles, and keeps, the kernel
    if not chosen.rate_only:
        verdict_table(QUICK if chosen.quick else SIZES, chosen.limit)
    sizes: dict[str, tuple[Size, ...]] = {"v4": ((4, 1),)} if chosen.quick else dict(RATED)
    rate_table(sizes, chosen.limit)
    if not chosen.rate_only:
        others()


if __name__ == "__main__":
    main()
