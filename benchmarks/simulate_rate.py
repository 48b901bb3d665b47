"""How long simulations take: the 32 published cells, and guests with more and more vCPUs.

Run: python benchmarks/simulate_rate.py [OUT.svg]

The rescaled guests print as CSV, and are plotted: seconds against requests, for each policy.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from mtrrzap.guest.open import shipped
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.simulator import Guest, cost_model, expected, published
from mtrrzap.study.rescale import with_memory, with_vcpus

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


def rescaled() -> Iterator[tuple[str, int, float]]:
    """Yield policy, requests and seconds for SeaBIOS with 12 TiB and more and more vCPUs."""
    for vcpus in (16, 64, 256, 1024):
        trace = with_memory(with_vcpus(dict(shipped())["seabios-8"], vcpus), 12 << 40)
        for row in ROWS:
            policy = by_name(row)
            begin = time.perf_counter()
            guest = Guest.of(trace, Host(), 1, cost_model.costs())
            requests = list(replay(trace, policy))
            expected(guest, policy, requests)
            took = time.perf_counter() - begin
            print(f"{vcpus},{12 << 10},{row},{len(requests)},{took:.3f}", flush=True)
            yield row, len(requests), took


def plot(points: list[tuple[str, int, float]], at: Path) -> None:
    figure = Figure(figsize=(7, 4))
    axes = figure.add_subplot()
    for row in ROWS:
        mine = [(requests, seconds) for policy, requests, seconds in points if policy == row]
        axes.loglog(*zip(*mine, strict=True), marker="o", label=row)
    first, last = (sorted({requests for _, requests, _ in points})[i] for i in (0, -1))
    base = max(seconds for _, requests, seconds in points if requests == first)
    axes.loglog([first, last], [base, base * last / first], "k:", label="linear")
    axes.set_xlabel("requests of one boot")
    axes.set_ylabel("seconds, mean over patterns of arrivals included")
    axes.legend()
    figure.savefig(at, format="svg", bbox_inches="tight", metadata={"Date": None})


def main() -> None:
    cells()
    print(f"# the 32 published cells: {cells():.2f} s")
    print("vcpus,memory_gib,policy,requests,seconds")
    points = list(rescaled())
    if len(sys.argv) > 1:
        plot(points, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
