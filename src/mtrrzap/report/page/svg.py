"""Timelines and memory maps as inline SVG; colours are classes, the style gives them meaning."""

from collections.abc import Sequence

from mtrrzap.report.page.markup import Markup, el, join
from mtrrzap.report.page.timeline import LOOKS, Mark, Timeline
from mtrrzap.study.both_maps import MapRow
from mtrrzap.x86.memtype import MemType

LANE = 24
"""Height of a lane in units, which the style makes pixels."""

_TALL = (2, 20)
_UPPER, _LOWER, _LOW = (2, 9), (13, 9), (17, 5)
_EXTENT = {
    "reset": _TALL,
    "init": _TALL,
    "cr0": _UPPER,
    "cd-set": _TALL,
    "cd-clear": _TALL,
    "def": _TALL,
    "var": _LOWER,
    "fix": _LOWER,
    "pat": _LOW,
    "held": _LOW,
}
"""Where a mark stands in its lane, (top, height): what it is shows without colour, too."""
_SPAN_EXTENT = {"zap": (3, 18), "wait": (9, 6)}
"""The same of spans; a window fills the lane."""

_WINDOW = (1, LANE - 2)
_WIDTH = 1000


def lanes(timeline: Timeline) -> Markup:
    """Return a timeline as one SVG: a place is one unit wide, a track ``LANE`` high."""
    per_track: list[list[tuple[int, Mark]]] = [[] for _ in timeline.tracks]
    for index, mark in enumerate(timeline.marks):
        per_track[mark.track].append((index, mark))
    height = LANE * len(timeline.tracks)
    backs = [
        el("rect", class_="lane-back", x=0, y=track * LANE, width=timeline.length, height=LANE)
        for track in range(0, len(timeline.tracks), 2)
    ]
    spans = [
        el(
            "rect",
            class_=f"span {span.look}",
            x=span.first,
            y=span.track * LANE + _SPAN_EXTENT.get(span.look, _WINDOW)[0],
            width=span.last - span.first + 1,
            height=_SPAN_EXTENT.get(span.look, _WINDOW)[1],
            data_from=None if span.times is None else span.times[0],
            data_to=None if span.times is None else span.times[1],
            data_line=span.line,
        )
        for span in timeline.spans
    ]
    groups = [
        el(
            "g",
            *(_mark(index, mark, first=mark is marks[0][1]) for index, mark in marks),
            class_="lane",
            role="group",
            aria_label=f"{timeline.tracks[track]}: {len(marks)} marks",
        )
        for track, marks in enumerate(per_track)
    ]
    return el(
        "svg",
        *backs,
        *spans,
        *groups,
        viewBox=f"0 0 {max(1, timeline.length)} {height}",
        preserveAspectRatio="none",
        style=f"height:{height}px",
        role="group",
        aria_label=f"{timeline.name}: {len(timeline.marks)} marks on {len(per_track)} tracks",
    )


def _mark(index: int, mark: Mark, *, first: bool) -> Markup:
    top, height = _EXTENT[mark.look]
    return el(
        "path",
        class_=f"m {mark.look}{' host' if mark.host else ''}",
        d=f"M{mark.at + 0.5} {mark.track * LANE + top}v{height}",
        data_i=index,
        tabindex=0 if first else None,
        # The script names the mark that is reached; thousands of names would be noise.
        role="img" if first else None,
        aria_label=LOOKS[mark.look] if first else None,
    )


def swatch(look: str) -> Markup:
    """Return a look as it stands in a lane, for a legend."""
    top, height = _EXTENT[look]
    # Not a .m: a legend has no marks of the trace.
    mark = el("path", class_=f"k {look}", d=f"M5 {top}v{height}")
    return el("svg", mark, class_="swatch", viewBox=f"0 0 10 {LANE}", aria_hidden="true")


def weights(rows: Sequence[MapRow]) -> list[int]:
    """Return widths of a map's stretches: they grow with the logarithm of the size."""
    return [max(1, (row.end - row.start).bit_length() - 12) for row in rows]


def type_class(kind: MemType | None) -> str:
    """Return the class that colours a memory type."""
    return "t-none" if kind is None else f"t-{kind.name}"


def symbol(ident: str, rows: Sequence[MapRow]) -> Markup:
    """Return a map (KVM's types) to be drawn any number of times by ``use``."""
    sizes = weights(rows)
    scale = _WIDTH / sum(sizes)
    pieces = []
    x = 0.0
    for row, size in zip(rows, sizes, strict=True):
        width = size * scale
        pieces.append(
            el("rect", class_=type_class(row.kvm), x=f"{x:.1f}", width=f"{width:.1f}", height=10)
        )
        x += width
    box = f"0 0 {_WIDTH} 10"
    return el("symbol", *pieces, id=ident, viewBox=box, preserveAspectRatio="none")


def use(ident: str, says: str) -> Markup:
    """Draw a symbol small."""
    drawn = el("use", href=f"#{ident}")
    return el("svg", el("title", says), drawn, class_="mini", role="img", aria_label=says)


def definitions(symbols: Sequence[Markup]) -> Markup:
    """Return symbols where they are not seen."""
    return el("svg", join(*symbols), class_="definitions", aria_hidden="true")


def strip(rows: Sequence[MapRow], *, manual: bool, label: str) -> Markup:
    """Return a map as a wide strip with the types' names; ``manual``: those of the manual."""
    pieces = []
    for row, size in zip(rows, weights(rows), strict=True):
        kind = row.sdm if manual else row.kvm
        name = "?" if kind is None else str(kind)
        where = f"{name}: {row.start:#x} to {row.end:#x}"
        cell = el("span", name, class_=type_class(kind), style=f"flex-grow:{size}", title=where)
        pieces.append(cell)
    return el("div", el("b", label), el("div", *pieces, class_="strip"), class_="strip-row")
