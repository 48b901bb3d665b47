"""Cost against vCPUs as SVG, the crossings numbered and named; matplotlib draws."""

import io
import logging
from typing import Any

from mtrrzap.sweep.curves import Crossing, GuestCurves, vcpus
from mtrrzap.sweep.parquet import library

SIZE = (11.0, 6.5)
"""Inches."""
MARKERS = "osv^D<>pXh*P"
NAMED = 18
"""Crossings that a plot has room to name; the page lists all."""


def plot(guest: GuestCurves, crossings: list[Crossing]) -> str:
    """Return one guest's plot as SVG; the same results give the same text."""
    # It warns where HOME cannot be written to, and works without.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    library("matplotlib")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # No fonts inside, and nothing random.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mtrrzap", "font.size": 9}):
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes((0.07, 0.08, 0.58, 0.86))
        _lines(axes, guest)
        _numbers(axes, crossings)
        _frame(axes, guest)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, ncols=2)
        _list(figure, guest, crossings)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _lines(axes: Any, guest: GuestCurves) -> None:
    for i, (policy, curve) in enumerate(guest.curves.items()):
        at = sorted(n for n, cycles in curve.items() if cycles > 0)
        costs = [curve[n] / 1e6 for n in at]
        marker = MARKERS[i % len(MARKERS)]
        (line,) = axes.plot(at, costs, marker=marker, markersize=4, linewidth=1.2, label=policy)
        others = [guest.by_seed[seed].get(policy, {}) for seed in guest.seeds]
        if others:
            low = [min([curve[n], *(o.get(n, curve[n]) for o in others)]) / 1e6 for n in at]
            high = [max([curve[n], *(o.get(n, curve[n]) for o in others)]) / 1e6 for n in at]
            axes.fill_between(at, low, high, color=line.get_color(), alpha=0.12, linewidth=0)


def _numbers(axes: Any, crossings: list[Crossing]) -> None:
    for number, crossing in enumerate(crossings[:NAMED], 1):
        at, cost = crossing.at, crossing.cost / 1e6
        axes.plot([at], [cost], marker="o", markersize=11, color="white", markeredgecolor="black")
        axes.annotate(str(number), (at, cost), ha="center", va="center", fontsize=7)


def _frame(axes: Any, guest: GuestCurves) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({n for curve in guest.curves.values() for n in curve})
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    axes.set_xlabel("vCPUs")
    axes.set_ylabel("modelled Mcycles of all vCPUs in zap requests")
    axes.set_title(guest.title, loc="left")
    axes.grid(visible=True, which="major", color="0.9")


def _list(figure: Any, guest: GuestCurves, crossings: list[Crossing]) -> None:
    lines = []
    for number, c in enumerate(crossings[:NAMED], 1):
        lines.append(f"{number}: from {vcpus(c.at)} vCPUs{guest.wanders(c)}")
        lines.append(f"{c.above} below {c.below}")
    if len(crossings) > NAMED:
        lines.append(f"and {len(crossings) - NAMED} more")
    figure.text(0.665, 0.76, "\n".join(lines) or "No two cross.", va="top", fontsize=7)
