"""Time to a verdict, states per second and bytes per state: the checker beside SPIN and others.

Whole commands on the same machine, one after the other. SPIN: ``spin -a``, ``gcc -O2``, ``pan``,
with partial-order reduction. The checker: ``python -m mtrrzap.commands.check``, with symmetry. The
rates compare the identical step relation: ``pan`` without reduction, the checker without symmetry;
both then store the same states. A rate is that of the search alone, without any compiling.

    python benchmarks/check_vs_spin.py [--quick] [--limit SECONDS]
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MODELS = Path(__file__).parent / "spin"
PROTOCOLS = ("v4", "sketch", "review")
SIZES = ((2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (2, 2), (3, 2), (4, 2), (5, 2))
QUICK = ((2, 1), (4, 1), (3, 2))


@dataclass(frozen=True)
class Run:
    """One whole command: wall-clock seconds, and what its own search said."""

    seconds: float
    states: int
    search: float
    bytes: float
    said: str

    @property
    def rate(self) -> float:
        """Millions of states a second, of the search alone."""
        return self.states / self.search / 1e6 if self.search > 0.005 else 0.0


def spin(protocol: str, size: tuple[int, int], *, reduce: bool, limit: float) -> Run | None:
    """Run SPIN's three commands; None if ``pan`` does not end in time or in memory."""
    with tempfile.TemporaryDirectory() as at:
        started = time.perf_counter()
        flags = [f"-DN={size[0]}", f"-DR={size[1]}"]
        subprocess.run(
            ["spin", "-a", *flags, str(MODELS / f"{protocol}.pml")], cwd=at, check=True,
            capture_output=True,
        )  # fmt: skip
        how = ["-DSAFETY", "-DMEMLIM=12000", *([] if reduce else ["-DNOREDUCE"])]
        subprocess.run(
            ["gcc", "-O2", "-w", *how, "-o", "pan", "pan.c"],
            cwd=at,
            check=True,
            capture_output=True,
        )
        pan = ["./pan", "-m1000000", "-c0"]
        try:
            done = subprocess.run(pan, cwd=at, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return None
        seconds = time.perf_counter() - started
    return parsed(done.stdout, seconds)


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
        sys.executable, "-m", "mtrrzap.commands.check", protocol, "--json", "--no-alloc-fails",
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
        bytes=first["bytes"] / first["states"],
        said="VIOLATED" if wrong else "holds",
    )


def verdict_table(sizes: tuple[tuple[int, int], ...], limit: float) -> None:
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


def rate_table(sizes: tuple[tuple[int, int], ...], limit: float) -> None:
    """Print the identical step relation: no reduction, no symmetry."""
    print("The identical step relation: SPIN without reduction, the checker without symmetry")
    print(f"{'':18}{'':14}{'million states/s':>20}{'':8}{'bytes a state':>18}")
    print(f"{'':18}{'states':>14}{'SPIN':>10}{'ours':>10}{'ratio':>8}{'SPIN':>9}{'ours':>9}")
    for protocol in PROTOCOLS:
        for size in sizes:
            theirs = spin(protocol, size, reduce=False, limit=limit)
            if theirs is None or theirs.states < 50_000:
                continue
            mine = ours(protocol, size, symmetry=False)
            same = f"{mine.states:14,}" if mine.states == theirs.states else "     DIFFERENT"
            ratio = mine.rate / theirs.rate if theirs.rate else 0.0
            row = f"{_name(protocol, size)}{same}{theirs.rate:10.2f}{mine.rate:10.2f}{ratio:8.1f}"
            print(f"{row}{theirs.bytes:9.0f}{mine.bytes:9.0f}", flush=True)
    print()


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
    options.add_argument("--limit", type=float, default=60.0, help="seconds that pan may take")
    chosen = options.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}")
    if shutil.which("spin") is None or shutil.which("gcc") is None:
        raise SystemExit("spin or gcc is not installed")
    sizes = QUICK if chosen.quick else SIZES
    ours("v4", (5, 1), symmetry=False)  # compiles, and keeps, the kernel
    verdict_table(sizes, chosen.limit)
    rate_table(sizes, chosen.limit)
    others()


if __name__ == "__main__":
    main()
