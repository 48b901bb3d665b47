"""The whole page: one text that needs nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from string import Template

from mtrrzap import __version__
from mtrrzap.report.counterexample import drawn
from mtrrzap.report.page.figure import badge
from mtrrzap.report.page.markup import Markup, data_block, el, join, number, table
from mtrrzap.report.page.render import parts, rendered, timelines
from mtrrzap.report.page.section import Section
from mtrrzap.report.page.timeline import Basis, Timeline
from mtrrzap.study.checked import CheckedProtocol


def document(sections: Sequence[Section], protocol: CheckedProtocol, assumptions: str) -> str:
    """Return the page; ``assumptions`` says on what host its figures are counted."""
    script = _resource("page.js")
    names = ", ".join(section.name for section in sections)
    data = {
        key: _data(timeline)
        for index, section in enumerate(sections)
        for key, timeline in timelines(section, index).items()
    }
    body = join(
        *(rendered(section, index) for index, section in enumerate(sections)), _checked(protocol)
    )
    return Template(_resource("page.html")).substitute(
        title=join(f"mtrrzap: {names}"),
        version=join(__version__),
        style=_resource("page.css"),
        script=script,
        script_hash=_hash(script),
        nav=_nav(sections),
        assumptions=join(assumptions),
        body=body,
        data=data_block({"timelines": data}),
    )


def _resource(name: str) -> str:
    return files("mtrrzap.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return what the page's security policy allows to run: this script and no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _data(timeline: Timeline) -> dict[str, object]:
    """Return what the script needs to know of a timeline; the marks themselves are in the page."""
    at = [mark.at for mark in timeline.marks]
    return {
        "length": timeline.length,
        "at": None if at == list(range(timeline.length)) else at,
        "times": timeline.times,
        "end": timeline.end,
        "lines": timeline.lines,
    }


def _nav(sections: Sequence[Section]) -> Markup:
    items = []
    for index, section in enumerate(sections):
        inside = [
            el("li", el("a", text, href=f"#t{index}-{key}")) for key, text in parts(section).items()
        ]
        link = el("a", section.name, href=f"#t{index}", class_="trace-link")
        items.append(el("li", link, el("ul", *inside)))
    items.append(el("li", el("a", "Every interleaving", href="#protocol", class_="trace-link")))
    return el("ul", *items)


def _checked(found: CheckedProtocol) -> Markup:
    columns = ["property", "verdict", "a way to it", "states"]
    rows = [
        [
            each.prop,
            el("span", each.verdict, class_=f"verdict {each.verdict.lower()}"),
            each.detail or "-",
            number(each.states),
        ]
        for each in found.properties
    ]
    caption = join(
        badge(Basis.COUNTED),
        f" Protocol {found.protocol} ({found.source}) of {found.policy}; {found.configuration}. "
        "A verdict is about every interleaving, for the requests that the traces above make.",
    )
    violated = [(e.prop, e.counterexample) for e in found.properties if e.counterexample]
    shown = [
        el(
            "details",
            el("summary", f"Counterexample: {name}"),
            el("pre", drawn(counterexample, found.protocol), tabindex="0"),
            open=number == 0,
            class_="counterexample",
        )
        for number, (name, counterexample) in enumerate(violated)
    ]
    nothing = None if shown else el("p", "No counterexample was found.")
    return el(
        "article",
        el("h2", f"Every interleaving of “{found.protocol}”"),
        table(caption, columns, rows, numbers=frozenset(("states",)), sortable=False),
        nothing,
        *shown,
        id="protocol",
    )
