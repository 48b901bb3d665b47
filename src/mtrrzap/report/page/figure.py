"""A timeline as a figure: legend, buttons, lanes with names and axis, and all lines as text."""

from mtrrzap.report.page import svg
from mtrrzap.report.page.markup import Markup, el
from mtrrzap.report.page.timeline import LOOKS, SPANS, Basis, Timeline

TICKS = 8
"""At most so many numbers along an axis."""


def badge(basis: Basis) -> Markup:
    """Return the word that says on what a figure rests."""
    return el("span", str(basis), class_=f"basis {basis}")


def figure(timeline: Timeline, key: str, says: str) -> Markup:
    """Return the figure; ``key`` is the timeline's in the page's data."""
    keys = [
        el("li", svg.swatch(look), f"{LOOKS[look]} ", el("b", f"{count:,}"))
        for look, count in timeline.looks().items()
    ]
    keys += [
        el("li", el("i", class_=f"window {look}"), f"{SPANS[look]} ", el("b", f"{count:,}"))
        for look, count in timeline.kinds().items()
    ]
    labels = [el("li", track) for track in timeline.tracks]
    inner = el(
        "div",
        svg.lanes(timeline),
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
    return [el("span", f"{at:,.10g}", style=f"left:{100 * at / top:.3f}%") for at in marks]


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
