"""A timeline as a figure, and memory maps as strips, in inline SVG.

Colours are classes; the style gives them meaning.
"""

from collections.abc import Sequence

from mtrrzap.report.page.markup import Markup, el, join
from mtrrzap.report.page.timeline import LOOKS, SPANS, Bar, Basis, Mark, Timeline
from mtrrzap.study.both_maps import MapRow
from mtrrzap.x86.memtype import MemType

_LATE = 0.85
"""From here on along an axis a number stands at the left of its place, where it has room."""
TICKS = 8
"""At most so many numbers along an axis."""
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


def badge(basis: Basis) -> Markup:
    """Return the word that says on what a figure rests."""
    return el("span", str(basis), class_=f"basis {basis}")


def figure(timeline: Timeline, key: str, says: str) -> Markup:
    """Return the figure; ``key`` is the timeline's in the page's data."""
    keys = [
        el("li", swatch(look), f"{LOOKS[look]} ", el("b", f"{count:,}"))
        for look, count in timeline.looks().items()
    ]
    keys += [
        el("li", el("i", class_=f"window {look}"), f"{SPANS[look]} ", el("b", f"{count:,}"))
        for look, count in timeline.kinds().items()
    ]
    labels = [el("li", track) for track in timeline.tracks]
    inner = el(
        "div",
        lanes(timeline),
        el("div", *_ticks(timeline), el("em", timeline.axis), class_="axis"),
        class_="inner",
    )
    return el(
        "figure",
        el("figcaption", badge(timeline.basis), f" {says}"),
        el("ul", *keys, class_="legend"),
        _toolbar(timed=timeline.times is not None),
        el(
            "div",
            el("ol", *labels, class_="labels", aria_hidden="true"),
            el("div", inner, class_="scroll"),
            class_="lanes",
        ),
        _listing(timeline),
        class_="timeline",
        data_timeline=key,
    )


def _ticks(timeline: Timeline) -> list[Markup]:
    """Return round numbers along the axis, some half a dozen."""
    top = max(1, timeline.length) * timeline.unit
    steps = (digit * 10.0**power for power in range(-6, 20) for digit in (1, 2, 5))
    step = next(step for step in steps if top <= TICKS * step)
    if timeline.unit == 1:
        step = max(1.0, step)
    marks = [n * step for n in range(TICKS + 1) if n * step < top]
    return [
        el(
            "span",
            f"{at:,.10g}",
            style=f"left:{100 * at / top:.3f}%",
            class_="late" if at > _LATE * top else None,
        )
        for at in marks
    ]


def _toolbar(*, timed: bool) -> Markup:
    def button(text: str, says: str, **attributes: object) -> Markup:
        return el("button", text, type="button", aria_label=says, title=says, **attributes)

    scale = [
        button("order", "place by order of events", data_scale="order", aria_pressed="true"),
        button("measured time", "place by recorded time", data_scale="time", aria_pressed="false"),
    ]
    return el(
        "div",
        button("\u2212", "zoom out", data_zoom="0.5"),
        button("+", "zoom in", data_zoom="2"),
        button("fit", "show all", data_zoom="0"),
        *(scale if timed else ()),
        el("output", "Point at a mark, or Tab to it and use the arrow keys.", aria_live="polite"),
        class_="toolbar",
    )


def _listing(timeline: Timeline) -> Markup:
    """Return where the script lists all lines, once somebody wants to see them."""
    summary = el("summary", f"All {len(timeline.lines):,} as text")
    return el("details", summary, el("pre", tabindex="0"), class_="listing")


# ---- SVG ---------------------------------------------------------------------------------------


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
        *map(_bar, timeline.spans),
        *groups,
        viewBox=f"0 0 {max(1, timeline.length)} {height}",
        preserveAspectRatio="none",
        style=f"height:{height}px",
        role="group",
        aria_label=f"{timeline.name}: {len(timeline.marks)} marks on {len(per_track)} tracks",
    )


def _bar(bar: Bar) -> Markup:
    top, height = _SPAN_EXTENT.get(bar.look, _WINDOW)
    begin, end = bar.times or (None, None)
    return el(
        "rect",
        class_=f"span {bar.look}",
        x=bar.first,
        y=bar.track * LANE + top,
        width=bar.last - bar.first + 1,
        height=height,
        data_from=begin,
        data_to=end,
        data_line=bar.line,
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
