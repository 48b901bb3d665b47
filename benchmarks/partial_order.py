"""What partial-order reduction brings vCPUs that ask for different ranges.

    python benchmarks/partial_order.py [--most STATES]

Each row is one search in full and one reduced, both compiled: states kept, steps made, and how many
times fewer that is. What is violated is left out: there the full search follows the reduced one.
``--most`` leaves out sizes that have more states.
"""

from __future__ import annotations

import argparse

from mtrrzap.checker.model import Model
from mtrrzap.checker.packed_search import PackedSearch
from mtrrzap.checker.properties.lost_zap import LostZap
from mtrrzap.checker.result import Limits
from mtrrzap.checker.scenario import Request, scenario
from mtrrzap.protocol import ALL_GFNS, PROTOCOLS, Range

APART: tuple[Request, ...] = (
    (Range(0, 0x100),),
    (Range(0x80000, 0x100000),),
    (Range(0x100000, 0x400000),),
    (ALL_GFNS,),
)
SIZES = ((3, 1), (3, 2), (4, 1), (4, 2))
LINE = "{:9} {:>5} {:>11} {:>11} {:>6}   {:>11} {:>11} {:>6}"


def main(most: int) -> None:
    """Print the table."""
    heads = ("protocol", "size", "states", "kept", "fewer", "steps", "made", "fewer")
    print(LINE.format(*heads))
    for name in ("sketch", "review", "ticket"):
        for vcpus, requests in SIZES:
            world = scenario(PROTOCOLS[name], vcpus, requests, ranges=APART, alloc_fails=True)
            every = PackedSearch(Model(world, LostZap(world)), limits=Limits(states=most)).run()
            if every.cut is not None:
                continue
            search = PackedSearch(Model(world, LostZap(world)), reduced=True)
            fewer = search.run()
            assert not search.doubt
            assert not every.violations
            assert fewer.cut is None
            cells = []
            for before, after in (
                (every.states, fewer.states),
                (every.transitions, fewer.transitions),
            ):
                cells += [f"{before:,}", f"{after:,}", f"{before / after:.2f}"]
            print(LINE.format(name, f"{vcpus} x {requests}", *cells), flush=True)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--most", type=int, default=5_000_000)
    main(options.parse_args().most)
