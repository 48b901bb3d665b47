"""Many threads, random ranges, every protocol: count the calls that came back unzapped.

Run: python benchmarks/stress_threads.py [--threads 64] [--calls 10000] [PROTOCOL ...]

The judge (tests/helpers/zap_log.py) sees only the ticks of a logical clock, for calls and zaps.
``--raise`` and ``--no-memory``: the share of zaps that raise, of allocations that fail. Protocols
that can lose a zap do if the scheduler lets them. Ends with status 1 if one of the others does.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers.zap_log import Call, Clock, Zap, judge
from mtrrzap.protocol import PROTOCOLS, Protocol
from mtrrzap.threads import Runtime, ZapError

FRAMES = 1 << 14
LONGEST = 64
LOSES = {"v3", "v4", "v4_patch10"}
"""Those of which ``mtrrzap check`` says that they can lose a zap."""


def chance(tick: int, share: float) -> bool:
    """Decide by a tick: the same on every thread, without a lock."""
    return (tick * 2654435761 & 0xFFFFFFFF) < share * (1 << 32)


class Stress:
    def __init__(self, protocol: Protocol, args: argparse.Namespace) -> None:
        self.args = args
        self.clock = Clock()
        self.calls: list[list[Call]] = [[] for _ in range(args.threads)]
        self.zaps: list[Zap] = []
        self.runtime = Runtime(protocol, self.zap, alloc=self.alloc)
        self.ready = threading.Barrier(args.threads + 1)
        self.broken: list[BaseException] = []

    def alloc(self, vcpu: int) -> bool:  # noqa: ARG002
        return not chance(self.clock.tick(), self.args.no_memory)

    def zap(self, start: int, stop: int) -> None:
        begin = self.clock.tick()
        time.sleep(0)  # let go of the interpreter: others call meanwhile
        raised = chance(begin, self.args.raising)
        self.zaps.append(Zap(begin, self.clock.tick(), start, stop, raised))
        if raised:
            raise OSError("injected")

    def vcpu(self, number: int) -> None:
        dice = random.Random(number)
        self.ready.wait()
        try:
            for _ in range(self.args.calls):
                start = dice.randrange(FRAMES)
                stop = start + dice.randint(1, LONGEST)
                begin, raised = self.clock.tick(), False
                try:
                    self.runtime.call(number, ((start, stop),))
                except ZapError:
                    raised = True
                self.calls[number].append(Call(begin, self.clock.tick(), start, stop, raised))
        except BaseException as error:
            self.broken.append(error)
            self.runtime.abort(error)

    def run(self) -> dict[str, object]:
        threads = [
            threading.Thread(target=self.vcpu, args=(i,), daemon=True)
            for i in range(self.args.threads)
        ]
        for thread in threads:
            thread.start()
        self.ready.wait()
        begin = time.perf_counter()
        deadline = time.monotonic() + self.args.limit
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        seconds = time.perf_counter() - begin
        if any(thread.is_alive() for thread in threads):
            raise SystemExit(f"{self.runtime.protocol.name}: hangs")
        if self.broken:
            raise self.broken[0]
        calls = [call for mine in self.calls for call in mine]
        verdict = judge(calls, self.zaps)
        return {
            "protocol": self.runtime.protocol.name,
            "calls": len(calls),
            "zaps": len(self.zaps),
            "zaps raised": sum(zap.raised for zap in self.zaps),
            "calls raised": sum(call.raised for call in calls),
            "lost": len(verdict.lost),
            "unfounded": len(verdict.unfounded),
            "seconds": round(seconds, 1),
        }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("protocols", nargs="*", default=list(PROTOCOLS), metavar="PROTOCOL")
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--calls", type=int, default=10_000, help="of each thread")
    parser.add_argument("--raise", dest="raising", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--no-memory", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for each protocol")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    sys.setswitchinterval(1e-4)  # the interpreter lock changes hands 50 times as often
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    rows = []
    for name in args.protocols:
        rows.append(row := Stress(PROTOCOLS[name], args).run())
        if not args.json:
            if len(rows) == 1:
                print(f"# Python {sys.version.split()[0]}, interpreter lock: {gil}")
                print("  ".join(row))
            print("  ".join(f"{value!s:>{len(key)}}" for key, value in row.items()), flush=True)
    if args.json:
        print(json.dumps({"gil": gil, "rows": rows}))
    wrong = [
        row for row in rows if row["unfounded"] or (row["lost"] and row["protocol"] not in LOSES)
    ]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
