"""A page in Markdown of a ``simulate`` sweep: what pays where, what remains, plots, crossings."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from mtrrzap.report.text import markdown_table
from mtrrzap.simulator import cost_model
from mtrrzap.study.units import mcycles, size
from mtrrzap.sweep.columns import FAILED, REFUSED
from mtrrzap.sweep.curves import GuestCurves, guest_curves, pays, vcpus
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
    found = guest_curves(results)
    shown = _shown(found)
    plots = {_name(stem, guest): plot(guest, guest.crossings()) for guest in shown}
    blocks = [
        *_head(results, found),
        *(block for question in QUESTIONS for block in _answer(question, found)),
        *_remains(found),
        *_pictures(stem, shown),
        *_refused(results),
    ]
    return Page("\n\n".join(blocks) + "\n", plots)


def _shown(found: Sequence[GuestCurves]) -> list[GuestCurves]:
    """Return each guest with its least and with its most memory: between them little happens."""
    by_guest: dict[tuple[str, str], list[GuestCurves]] = {}
    for guest in found:
        by_guest.setdefault((guest.trace, guest.page_size), []).append(guest)
    return [
        guest
        for group in by_guest.values()
        for guest in (group if len(group) < 2 else (group[0], group[-1]))
    ]


def _name(stem: str, guest: GuestCurves) -> str:
    return f"{stem}-{guest.file}.svg"


def _head(results: Results, found: Sequence[GuestCurves]) -> Iterator[str]:
    told = results.manifest
    counts = results.statuses()
    yield f"# {told['title'] or 'A sweep'}"
    yield (
        "Read this page to know which of two policies costs less, and from how many vCPUs on. "
        "`mtrrzap sweep show RESULTS --page` makes it from "
        f"{results.cells:,} cells (mtrrzap {told['version']}, code {told['code'][:8]}); "
        "do not edit. "
        f"{counts.get('done', 0):,} are done, {counts.get(REFUSED, 0):,} refused, "
        f"{counts.get(FAILED, 0):,} failed."
    )
    if sum(counts.values()) < results.cells:
        yield "**Not complete**: run the same sweep again to continue it."
    yield (
        "All costs are *modelled* cycles that all vCPUs spend in zap requests during one boot "
        "([simulate.md](simulate.md)). On held-out published cells the model is off by a factor of "
        f"{cost_model.error_factor():.2f} ([validation.md](validation.md)); beyond 16 vCPUs its "
        "error is unknown. Take the order of two policies from here, and where it turns; not the "
        "cycles."
    )
    seeds = {seed for guest in found for seed in guest.seeds}
    if seeds:
        spread_ = told["spec"]["spread"]
        yield (
            f"{len(seeds)} more seeds draw each parameter of the cost model between 1/{spread_:g} "
            f"and {spread_:g} times the fitted one. Ranges in parentheses, and bands in the plots, "
            "are what they give: a crossing that moves far depends on the fit."
        )
    yield (
        "The tables say how many times cheaper the first policy is. Bold, and where it pays: by "
        f"more than {NOISE:g}, the most by which two published runs of one row differ."
    )


def _answer(question: Question, found: Sequence[GuestCurves]) -> Iterator[str]:
    curves = [(w, w.curves.get(question.old), w.curves.get(question.new)) for w in found]
    rows = [(guest, old, new) for guest, old, new in curves if old and new]
    if not rows:
        return
    at = sorted({n for _, old, _ in rows for n in old})
    yield f"## {question.heading}"
    yield f"`{question.new}` against `{question.old}`:"
    yield _table(
        ("pays, vCPUs", *(f"{n:,}" for n in at)),
        (
            (guest, (pays(old, new, NOISE), *(_ratio(old.get(n), new.get(n)) for n in at)))
            for guest, old, new in rows
        ),
    )


def _table(columns: Sequence[str], rows: Iterable[tuple[GuestCurves, tuple[str, ...]]]) -> str:
    """Return a row for each guest; sizes of memory that differ in nothing share one."""
    found = []
    for (trace, cells), group in groupby(rows, lambda row: (row[0].trace, row[1])):
        sizes = [size(guest.memory) for guest, _ in group]
        memory = sizes[0] if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        found.append((trace, memory, *cells))
    return markdown_table(("guest", "memory", *columns), found)


def _ratio(old: float | None, new: float | None) -> str:
    if not old or not new:
        return "-"
    ratio = old / new
    text = f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"
    return f"**{text}**" if ratio > NOISE else text


def _remains(found: Sequence[GuestCurves]) -> Iterator[str]:
    at = sorted({n for guest in found for curve in guest.curves.values() for n in curve})
    yield "## What remains"
    yield "The cheapest policy of the sweep, and the millions of cycles that it still costs."
    yield _table([f"{n:,}" for n in at], ((w, tuple(_cheapest(w, n) for n in at)) for w in found))


def _cheapest(guest: GuestCurves, vcpus: int) -> str:
    costs = {policy: curve[vcpus] for policy, curve in guest.curves.items() if vcpus in curve}
    best = min(costs, key=lambda policy: costs[policy], default=None)
    return "-" if best is None else f"{best}: {mcycles(costs[best])}"


def _pictures(stem: str, shown: Sequence[GuestCurves]) -> Iterator[str]:
    yield "## Cost against vCPUs"
    for guest in shown:
        yield f"### {guest.title}"
        yield f"![Modelled cost against vCPUs, {guest.title}]({_name(stem, guest)})"
        crossings = [
            f"{number}. From about {vcpus(c.at)} vCPUs{guest.wanders(c)} `{c.above}` "
            f"is cheaper than `{c.below}` (simulated: {c.between[0]:,} and {c.between[1]:,})."
            for number, c in enumerate(guest.crossings(), 1)
        ]
        yield "\n".join(crossings) or "No two policies cross."


def _refused(results: Results) -> Iterator[str]:
    reasons = [
        (f"{count:,}", status, reason)
        for status in (REFUSED, FAILED)
        for reason, count in results.reasons(status)
    ]
    if reasons:
        yield "## Cells without a figure"
        yield markdown_table(("cells", "status", "why"), reasons)
