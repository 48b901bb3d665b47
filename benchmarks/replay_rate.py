"""Events a second of ``replay``, and the time of ``compare``, printed as a table.

Run: ``python benchmarks/replay_rate.py``. The trace is a shipped recording repeated until it has a
million events; the second one has no state twice, the worst case of the learned automaton.
"""

import subprocess
import sys
import time
from dataclasses import replace

from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.open import shipped
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.policy import POLICIES
from mtrrzap.kvm.replay import replay

EVENTS = 1_000_000


def rate(trace: Trace, policy_name: str) -> float:
    policy = next(p for p in POLICIES if p.name == policy_name)
    begin = time.perf_counter()
    for _ in replay(trace, policy):
        pass
    return len(trace.events) / (time.perf_counter() - begin)


def main() -> None:
    recorded = dict(shipped())["ovmf-16"]
    repeated = recorded.events * (EVENTS // len(recorded.events) + 1)
    usual = replace(recorded, events=repeated)
    worst = replace(
        recorded,
        events=tuple(Event(0, Kind.WRMSR, 0x200, (n << 12) | 6) for n in range(EVENTS // 5)),
    )
    print(f"{'trace':24}{'policy':20}{'events/s':>12}")
    for name, trace in (("ovmf-16, repeated", usual), ("no state twice", worst)):
        for policy in ("v6.1", "Base2", "Base2+9+10+11"):
            print(f"{name:24}{policy:20}{rate(trace, policy):12,.0f}")
    command = [sys.executable, "-m", "mtrrzap", "compare"]
    subprocess.run(command, check=True, capture_output=True)
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    print(f"\nmtrrzap compare, shipped recordings, warm: {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
