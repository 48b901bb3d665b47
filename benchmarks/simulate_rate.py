"""How long simulations take: the 32 published cells, and guests with more and more vCPUs.

Run: python benchmarks/simulate_rate.py [OUT.csv]

The rescaled guests print as CSV, ready to plot: requests against seconds, for each policy.
"""

import sys
import time
from pathlib import Path

from mtrrzap.commands.traces import shipped
from mtrrzap.engine.simulate import Guest, expected
from mtrrzap.engine.simulate.rescale import with_memory, with_vcpus
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.report import cost_model, published

ROWS = ("Base2", "Base2+9", "Base2+9+10+11+12", "review", "ticket", "lazy")


def cells() -> float:
    """Return the seconds for the 32 published cells, replays included, traces read."""
    traces = [trace for _, trace in shipped()]
    begin = time.perf_counter()
    for trace in traces:
        guest = Guest.of(trace, Host(), 1, cost_model.costs())
        for family, _, row in published.mcycles(trace.header.vcpus):
            if family != trace.header.family:
                continue
            policy = by_name(row)
            expected(guest, policy, replay(trace, policy))
    return time.perf_counter() - begin


def main() -> None:
    cells()
    print(f"# the 32 published cells: {cells():.2f} s")
    lines = ["vcpus,memory_gib,policy,requests,seconds"]
    for vcpus in (16, 64, 256, 1024):
        trace = with_memory(with_vcpus(dict(shipped())["seabios-8"], vcpus), 12 << 40)
        for row in ROWS:
            policy = by_name(row)
            begin = time.perf_counter()
            guest = Guest.of(trace, Host(), 1, cost_model.costs())
            requests = list(replay(trace, policy))
            expected(guest, policy, requests)
            took = time.perf_counter() - begin
            lines.append(f"{vcpus},{12 << 10},{row},{len(requests)},{took:.3f}")
            print(lines[-1], flush=True)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
