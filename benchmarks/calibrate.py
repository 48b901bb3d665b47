"""Fit the cost model's parameters on the published figures of guests with 8 vCPUs.

Those are the 16 cells of v4 of the series and ten that were measured for v3 a month before: between
the two, figures of the same row differ by up to 1.4.

Run: python benchmarks/calibrate.py [--seconds 300] [--seed 1] [--fresh]

Writes src/mtrrzap/data/cost-model.toml. Nothing here reads a cell of another number of vCPUs.
The search is an evolution strategy with an adapted covariance (Hansen's CMA-ES, from its paper), in
the logarithms of the parameters, inside bounds that each parameter's meaning sets. Twenty-six
figures of sixteen cells do not determine fourteen parameters: what they leave open stays near a
guess (``MEANT``).
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtrrzap.guest.open import shipped
from mtrrzap.kvm.phases import phases
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host, replay
from mtrrzap.simulator import Costs, Guest, cost_model, expected, published
from mtrrzap.simulator.footprint import Footprint

FITTED_VCPUS = 8
PAGE_LEVEL = 1
FILE = Path(__file__).parent.parent / "src/mtrrzap/data/cost-model.toml"
MEANT = {
    "visit": (20, 45, 80),  # a few tens of instructions, and an eighth of a miss
    "handoff": (40, 150, 400),  # a sibling thread's line to one of another socket
    "retry": (2_000, 4_000, 12_000),  # an exit, the frame looked up, an entry
    "pages": (4, 6, 16),  # code, a word, and the guest's page tables of both
    "flush": (300, 1_500, 6_000),  # an IPI, its handler, its acknowledgement
    "free": (3_000, 20_000, 60_000),  # 512 exchanges
    "leave": (2_000, 2_500, 3_500),  # an exit by WRMSR
    # edk2: five exits to turn on long mode, CPUID, IA32_APIC_BASE and the local APIC some 20 times,
    # many of which APICv spares.
    "wake": (10_000, 40_000, 100_000),
    "stagger": (500, 4_000, 30_000),  # a vCPU woken after the other, by one that loops over all
    "again": (1, 10, 30),
    "unpaged_blocks": (2, 5, 40),  # SeaBIOS: the lowest block, and where it moves its code
    # OVMF: PEI volume and DXE volume, 1 + 7 blocks, and 8 that they are unpacked to first.
    "firmware_blocks": (16, 30, 80),
    "kernel_blocks": (1, 2, 10),  # Linux: itself and its initrd, 32 MiB of 16 GiB, and as much
    "mmio_blocks": (4, 5, 16),  # BARs, I/O APIC and HPET, local APIC, flash
}
"""Of each parameter: the least and the most that its meaning allows, and a guess in between.

The guesses are of the author, made when many fits had been seen."""
LOW, GUESS, HIGH = np.log([MEANT[name] for name in Costs.names()]).T
TRUST = (0.15 / math.log(2)) ** 2
"""Weight of a guess's squared logarithm: off by two, it counts as a figure that is off by 0.15."""

V3 = {
    ("OVMF", "Base1"): 3444.97,
    ("OVMF", "Base2"): 4343.68,
    ("OVMF", "Base2+9"): 261.45,
    ("OVMF", "Base2+9+10"): 157.42,
    ("OVMF", "Base2+9+10+11"): 33.95,
    ("SeaBIOS", "Base1"): 61.29,
    ("SeaBIOS", "Base2"): 503.04,
    ("SeaBIOS", "Base2+9"): 106.64,
    ("SeaBIOS", "Base2+9+10"): 71.04,
    ("SeaBIOS", "Base2+9+10+11"): 24.04,
}
"""Millions of cycles with 8 vCPUs: cover letter of v3 of the series (June 2023)."""


Vector = NDArray[np.float64]


class Cells:
    """The published cells of one number of vCPUs, and what the model says of them."""

    def __init__(self, vcpus: int) -> None:
        self._published = published.mcycles(vcpus)
        self._guests = {
            t.header.family: (t, phases(t)) for _, t in shipped() if t.header.vcpus == vcpus
        }
        self._requests = {
            cell: list(replay(self._guests[cell[0]][0], by_name(cell[2])))
            for cell in self._published
        }

    def ratios(self, costs: Costs, first: int = 0) -> dict[published.Cell, float]:
        """Return modelled / published, over patterns of arrivals from the ``first`` on."""
        guests = {
            family: Guest(parts, Footprint(t.header, Host(), PAGE_LEVEL, costs), costs)
            for family, (t, parts) in self._guests.items()
        }
        return {
            cell: expected(guests[cell[0]], by_name(cell[2]), self._requests[cell], first).cycles
            / 1e6
            / mcycles
            for cell, mcycles in self._published.items()
        }


def against_v3(ratios: dict[published.Cell, float]) -> dict[published.Cell, float]:
    known = published.mcycles(FITTED_VCPUS)
    return {
        cell: ratios[cell] * known[cell] / V3[cell[0], cell[2]]
        for cell in known
        if (cell[0], cell[2]) in V3
    }


def costs_of(x: Vector) -> Costs:
    values = np.exp(np.clip(x, LOW, HIGH))
    return Costs(**{n: float(f"{v:.4g}") for n, v in zip(Costs.names(), values, strict=True)})


def search(
    loss: Callable[[Vector], float], start: Vector, sigma: float, end: float, seed: int
) -> tuple[float, Vector]:
    """Return the least loss found until the time ``end`` or until it stalls."""
    rng, d, lam, mu = np.random.default_rng(seed), len(start), 14, 7
    weights = np.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
    weights /= weights.sum()
    mueff = 1 / float(np.sum(weights**2))
    cc, cs = (4 + mueff / d) / (d + 4 + 2 * mueff / d), (mueff + 2) / (d + mueff + 5)
    c1 = 2 / ((d + 1.3) ** 2 + mueff)
    cmu = min(1 - c1, 2 * (mueff - 2 + 1 / mueff) / ((d + 2) ** 2 + mueff))
    chi = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))
    cov, mean = np.diag((HIGH - LOW) ** 2 / 4), start.copy()
    path_c, path_s = np.zeros(d), np.zeros(d)
    best, best_x, stall = math.inf, start, 0
    while time.time() < end and stall < 30:
        values, vectors = np.linalg.eigh(cov)
        scale = np.sqrt(np.maximum(values, 1e-12))
        trials = np.clip(
            mean + sigma * (rng.standard_normal((lam, d)) * scale) @ vectors.T, LOW, HIGH
        )
        losses = np.array([loss(x) for x in trials])
        order = np.argsort(losses)
        stall = 0 if losses[order[0]] < best - 1e-3 else stall + 1
        if losses[order[0]] < best:
            best, best_x = float(losses[order[0]]), trials[order[0]].copy()
        steps = (trials[order[:mu]] - mean) / sigma
        step = weights @ steps
        mean = mean + sigma * step
        path_s = (1 - cs) * path_s + math.sqrt(cs * (2 - cs) * mueff) * (
            vectors @ ((vectors.T @ step) / scale)
        )
        path_c = (1 - cc) * path_c + math.sqrt(cc * (2 - cc) * mueff) * step
        cov = (1 - c1 - cmu) * cov + c1 * np.outer(path_c, path_c)
        cov += cmu * (steps.T * weights) @ steps
        sigma *= math.exp((cs / (1 + cs)) * (float(np.linalg.norm(path_s)) / chi - 1))
        sigma = min(sigma, 2.0)
    return best, best_x


def write(costs: Costs, fitted: float, held_out: float) -> None:
    lines = ["# Made by benchmarks/calibrate.py and benchmarks/validation.py; do not edit.", ""]
    lines += ["[costs]"]
    for name in Costs.names():
        says, unit = Costs.about(name)
        lines.append(f"{name} = {getattr(costs, name)!r}  # {unit}: {says}")
    lines += ["", "# exp of the root mean square of ln(modelled / published)", "[error]"]
    lines += [f"fitted = {fitted:.3f}", f"held_out = {held_out:.3f}", ""]
    FILE.write_text("\n".join(lines), encoding="utf-8")


def geometric(ratios: dict[published.Cell, float]) -> float:
    squares = [math.log(ratio) ** 2 for ratio in ratios.values()]
    return math.exp(math.sqrt(sum(squares) / len(squares)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="do not start from the shipped file")
    options = parser.parse_args()
    cells = Cells(FITTED_VCPUS)

    def loss(x: Vector) -> float:
        ratios = cells.ratios(costs_of(x))
        every = [*ratios.values(), *against_v3(ratios).values()]
        off = np.clip(x, LOW, HIGH) - GUESS
        return sum(math.log(ratio) ** 2 for ratio in every) + TRUST * float(np.sum(off**2))

    rng, end = np.random.default_rng(options.seed), time.time() + options.seconds
    best, best_x = math.inf, (LOW + HIGH) / 2
    if not options.fresh:
        best_x = np.log([getattr(cost_model.costs(), name) for name in Costs.names()])
        best = loss(best_x)
    number = 0
    while time.time() < end:
        again = number % 2 == 0 and math.isfinite(best)
        start, sigma = (best_x, 0.1) if again else (rng.uniform(LOW, HIGH), 0.3)
        found, x = search(loss, start, sigma, end, options.seed * 1000 + number)
        number += 1
        if found < best:
            best, best_x = found, x
        print(f"search {number}: {found:.4f}, best {best:.4f}", flush=True)
    costs = costs_of(best_x)
    ratios = cells.ratios(costs)
    for cell, ratio in ratios.items():
        print(f"{cell[0]:8} {cell[1]:3} {cell[2]:18} x{ratio:.2f}")
    fitted = geometric(ratios)
    print(f"fitted geometric error x{fitted:.3f}; now run benchmarks/validation.py")
    write(costs, fitted, 0.0)


if __name__ == "__main__":
    main()
