"""A page in Markdown of a ``simulate`` sweep: what pays where, what remains, plots, crossings."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mtrrzap.simulator import cost_model
from mtrrzap.study.units import mcycles, size
from mtrrzap.sweep.columns import FAILED, REFUSED
from mtrrzap.sweep.curves import World, pays, vcpus, worlds
from mtrrzap.sweep.plot import plot
from mtrrzap.sweep.query import Results

NOISE = 1.4
"""Run-to-run noise of the published figures: docs/validation.md."""


class Question(NamedTuple):
    """Two policies that differ in one thing."""

    heading: str
    old: str
    new: str


QUESTIONS = (
    Question("Where serialisation starts to pay", "Base2", "Base2+9"),
    Question("Where fine-grained ranges do", "Base2+9", "Base2+9+10"),
    Question("What splitting by memslots adds", "Base2+9+10", "Base2+9+10+11"),
    Question("What mmu_lock for read adds", "Base2+9+10+11", "Base2+9+10+11+12"),
    Question("What mmu_lock for read does alone", "Base2", "Base2+12"),
    Question("Where serialisation pays beside mmu_lock for read", "Base2+12", "Base2+9+10+12"),
    Question("Where the review's array pays", "Base2+9+10", "review"),
    Question("Where numbered batches pay", "review", "ticket"),
)


class Page(NamedTuple):
    """The text, and the plots that it shows by name."""

    text: str
    plots: dict[str, str]


def page(results: Results, stem: str) -> Page:
    """Return the page of a sweep; ``stem`` begins the names of its plots."""
    found = worlds(results)
    shown = _shown(found)
    plots = {_name(stem, world): plot(world, world.crossings()) for world in shown}
    lines = [*_head(results, found)]
    for question in QUESTIONS:
        lines += _answer(question, found)
    lines += _remains(found)
    lines += _pictures(stem, shown)
    lines += _refused(results)
    return Page("\n".join(lines) + "\n", plots)


def _shown(found: Sequence[World]) -> list[World]:
    """Return each guest with its least and with its most memory: between them little happens."""
    by_guest: dict[tuple[str, str], list[World]] = {}
    for world in found:
        by_guest.setdefault((world.trace, world.page_size), []).append(world)
    return [
        world
        for group in by_guest.values()
        for world in (group if len(group) < 2 else (group[0], group[-1]))
    ]


def _name(stem: str, world: World) -> str:
    return f"{stem}-{world.file}.svg"


def _head(results: Results, found: Sequence[World]) -> Iterator[str]:
    told = results.manifest
    counts = results.statuses()
    yield f"# {told['title'] or 'A sweep'}"
    yield ""
    yield (
        "Made by `mtrrzap sweep show RESULTS --page` from "
        f"{results.cells:,} cells (mtrrzap {told['version']}, code {told['code'][:8]}); "
        "do not edit. "
        f"{counts.get('done', 0):,} are done, {counts.get(REFUSED, 0):,} refused, "
        f"{counts.get(FAILED, 0):,} failed."
    )
    if sum(counts.values()) < results.cells:
        yield ""
        yield "**Not complete**: the sweep goes on when it is run again."
    yield ""
    yield (
        "All costs are *modelled* cycles that all vCPUs spend in zap requests during one boot "
        "([simulate.md](simulate.md)). On published cells that no fit has seen, the model is off "
        f"by a factor of {cost_model.error_factor():.2f} ([validation.md](validation.md)), and "
        "nothing vouches for it beyond 16 vCPUs. Take the order of two policies from here, and "
        "where it turns; not the cycles."
    )
    seeds = {seed for world in found for seed in world.seeds}
    if seeds:
        spread_ = told["spec"]["spread"]
        yield ""
        yield (
            f"{len(seeds)} more seeds draw each parameter of the cost model between 1/{spread_:g} "
            f"and {spread_:g} times the fitted one. Ranges in parentheses, and bands in the plots, "
            "are what they give: a crossing that wanders far hangs on the fit."
        )


def _answer(question: Question, found: Sequence[World]) -> Iterator[str]:
    rows = []
    for world in found:
        old, new = world.curves.get(question.old), world.curves.get(question.new)
        if old and new:
            rows.append((world, old, new))
    if not rows:
        return
    columns = sorted({n for _, old, _ in rows for n in old})
    yield ""
    yield f"## {question.heading}"
    yield ""
    yield (
        f"`{question.new}` against `{question.old}`: how many times cheaper it is. Bold, and where "
        f"it pays: by more than {NOISE:g}, the most by which two published runs of one row differ."
    )
    yield ""
    yield f"| guest | memory | pays, vCPUs | {' | '.join(f'{n:,}' for n in columns)} |"
    yield "|" + " --- |" * (3 + len(columns))
    for world, old, new in rows:
        cells = [_ratio(old.get(n), new.get(n)) for n in columns]
        where = pays(old, new, NOISE)
        yield f"| {world.trace} | {size(world.memory)} | {where} | {' | '.join(cells)} |"


def _ratio(old: float | None, new: float | None) -> str:
    if not old or not new:
        return "-"
    ratio = old / new
    text = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
    return f"**{text}**" if ratio > NOISE else text


def _remains(found: Sequence[World]) -> Iterator[str]:
    columns = sorted({n for world in found for curve in world.curves.values() for n in curve})
    yield ""
    yield "## What remains"
    yield ""
    yield "The cheapest policy of the sweep, and the millions of cycles that it still costs."
    yield ""
    yield f"| guest | memory | {' | '.join(f'{n:,}' for n in columns)} |"
    yield "|" + " --- |" * (2 + len(columns))
    for world in found:
        cells = []
        for n in columns:
            costs = {p: curve[n] for p, curve in world.curves.items() if n in curve}
            best = min(costs, key=lambda p: costs[p], default=None)
            cells.append("-" if best is None else f"{best}: {mcycles(costs[best])}")
        yield f"| {world.trace} | {size(world.memory)} | {' | '.join(cells)} |"


def _pictures(stem: str, shown: Sequence[World]) -> Iterator[str]:
    yield ""
    yield "## Cost against vCPUs"
    for world in shown:
        crossings = world.crossings()
        yield ""
        yield f"### {world.title}"
        yield ""
        costs = ", ".join(world.curves)
        yield f"![Modelled cost against vCPUs of {costs}]({_name(stem, world)})"
        yield ""
        if not crossings:
            yield "No two policies cross."
        for number, c in enumerate(crossings, 1):
            yield (
                f"{number}. From about {vcpus(c.at)} vCPUs{world.wanders(c)} `{c.above}` "
                f"is cheaper than `{c.below}` (simulated: {c.between[0]:,} and {c.between[1]:,})."
            )


def _refused(results: Results) -> Iterator[str]:
    reasons = [(status, *each) for status in (REFUSED, FAILED) for each in results.reasons(status)]
    if not reasons:
        return
    yield ""
    yield "## Cells without a figure"
    yield ""
    yield "| cells | status | why |"
    yield "| --- | --- | --- |"
    for status, reason, count in reasons:
        yield f"| {count:,} | {status} | {reason} |"
