"""kill -9 of a sweep at a random moment, twenty times, with a resume each time.

Run: python benchmarks/sweep_kill.py [SEED]

A kill is of the parent alone: its workers must not outlive it.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KILLS = 20
SPEC = """
kind = "simulate"
[grid]
traces = ["seabios-8", "ovmf-8"]
vcpus = [8, 16, 32, 64]
memory = ["16G", "1T"]
seeds = { from = 0, to = 3 }
policies = ["Base2", "+9", "+9+10", "review", "ticket"]
"""


def command(spec: Path, results: Path) -> list[str]:
    return [sys.executable, "-m", "mtrrzap", "sweep", str(spec), "-o", str(results), "-q"]


def rows(results: Path) -> int:
    """Count the rows that are on disk, whatever is in the middle of being written."""
    asked = [sys.executable, "-m", "mtrrzap", "sweep", "show", str(results), "--csv"]
    done = subprocess.run(
        [*asked, "--sql", "SELECT count(*) FROM cells"], capture_output=True, text=True, check=False
    )
    return int(done.stdout.split()[1]) if done.returncode == 0 else 0


def words(process: str) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def orphans() -> list[int]:
    """Workers whose parent is no sweep any more."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"mtrrzap.sweep.local" in words(path.parent.name) and b"sweep" not in words(parent):
            found.append(int(path.parent.name))
    return found


def killed(spec: Path, results: Path, after: float) -> bool:
    """Run for so many seconds, then kill; return whether it was still running."""
    process = subprocess.Popen(command(spec, results), stdout=subprocess.DEVNULL)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def main() -> None:
    rng = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    before = set(orphans())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = folder / "spec.toml"
        spec.write_text(SPEC)
        begin = time.perf_counter()
        subprocess.run(command(spec, folder / "whole"), check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - begin
        whole = (folder / "whole/cells.parquet").read_bytes()
        kills, finished, had = 0, 0, 0
        results = folder / "results-0"
        while kills < KILLS:
            # Half of the kills come while a sweep gets under way, the rest whenever.
            after = rng.uniform(0.3, took / 4 if kills % 2 else took)
            if killed(spec, results, after):
                kills += 1
                now = rows(results)
                assert now >= had, f"kill {kills}: {had} rows before, {now} after"
                print(f"kill {kills:2} after {after:4.1f} s: {now} rows on disk", flush=True)
                had = now
            else:
                assert (results / "cells.parquet").read_bytes() == whole
                finished, had = finished + 1, 0
                results = folder / f"results-{finished}"
        subprocess.run(command(spec, results), check=True, stdout=subprocess.DEVNULL)
        assert (results / "cells.parquet").read_bytes() == whole
        time.sleep(2)
        left = set(orphans()) - before
        print(
            f"{KILLS} kills, {finished + 1} sweeps finished: each the same to the bit as the "
            f"undisturbed one ({took:.1f} s); {len(left)} workers left behind"
        )


if __name__ == "__main__":
    main()
