"""One trace's section of the page."""

from statistics import median

from mtrrzap.report import text
from mtrrzap.report.page import render_modelled
from mtrrzap.report.page.figure import badge, definitions, figure, strip, symbol, use
from mtrrzap.report.page.markup import Markup, TableCell, el, join, number, table
from mtrrzap.report.page.section import Change, NumberedMap, Section
from mtrrzap.report.page.timeline import Basis, Timeline
from mtrrzap.study import compare
from mtrrzap.study.both_maps import MapRow
from mtrrzap.study.kernel_zaps import zap_rows
from mtrrzap.x86 import msr as m

PARTS = {
    "lanes": "What the guest did",
    "requests": "Who asked for a zap",
    "served": "Who zapped, who waited",
    "kernel": "What the kernel itself zapped",
    "costs": "What MTRR writes took",
    "maps": "Memory maps",
    "policies": "Policies",
    "modelled": "Modelled cost",
    "stale": "Stale types",
}
"""The parts of a section: the end of each one's id, and its heading."""


def parts(section: Section) -> dict[str, str]:
    """Return the parts that a section has."""
    absent = {"costs"} if not section.costs else set()
    absent |= {"kernel"} if section.kernel is None else set()
    return {key: heading for key, heading in PARTS.items() if key not in absent}


def timelines(section: Section, index: int) -> dict[str, Timeline]:
    """Return what the script must know of a section's figures, by their keys."""
    every = {"lanes": section.events, "requests": section.requests, "served": section.served}
    return {f"t{index}-{key}": found for key, found in every.items() if found}


def rendered(section: Section, index: int) -> Markup:
    """Return a trace's section; ``index`` is its place on the page."""
    bodies = {
        "lanes": _lanes,
        "requests": _requests,
        "served": render_modelled.served,
        "costs": _costs,
        "kernel": _kernel,
        "maps": _maps,
        "policies": _policies,
        "modelled": render_modelled.costs,
        "stale": _stale,
    }
    said = parts(section)
    said |= {key: f"{PARTS[key]}: {section.policy.name}" for key in ("requests", "served")}
    made = [
        el("section", el("h3", heading), bodies[key](section, index), id=f"t{index}-{key}")
        for key, heading in said.items()
    ]
    return el("article", _head(section), *made, id=f"t{index}", class_="trace")


def _head(section: Section) -> Markup:
    header = section.trace.header
    facts = [header.firmware, header.guest_kernel, header.machine]
    if header.memory:
        facts.append(f"{header.memory / (1 << 30):g} GiB")
    verdict = next((v.verdict for v in section.verdicts if v.policy == section.policy.name), "-")
    tiles = (
        (f"{len(section.trace.events):,}", "events"),
        (f"{header.vcpus:,}", "vCPUs"),
        (f"{len(section.maps.changes):,}", "update windows"),
        (f"{len(section.requests.marks):,}", f"requests, {section.policy.name}"),
        (verdict, f"verdict on {section.policy.name}"),
    )
    incomplete = section.trace.incomplete
    return join(
        el("h2", section.name),
        el("p", " · ".join(facts), class_="facts"),
        el(
            "p",
            el("strong", "Incomplete trace: "),
            f"{incomplete}. Every figure is a lower bound.",
            class_="warning",
        )
        if incomplete is not None
        else None,
        el("dl", *(el("div", el("dt", t), el("dd", v)) for v, t in tiles), class_="tiles"),
        el("p", badge(Basis.COUNTED), " All of these follow from the trace.", class_="note"),
        _origin(section),
    )


def _origin(section: Section) -> Markup:
    header = section.trace.header
    pairs = [
        ("recorder", header.recorder),
        ("date", header.date),
        ("command", header.command),
        ("host writes", header.host_writes),
        ("guest MAXPHYADDR", f"{header.maxphyaddr} bits"),
        ("memslots", " ".join(f"[{s.start:#x}, {s.end:#x}) {s.what}" for s in header.memslots)),
        *(("note", note) for note in header.notes),
    ]
    items = [join(el("dt", key), el("dd", value)) for key, value in pairs if value]
    return el("details", el("summary", "Where the trace comes from"), el("dl", *items))


# ---- timelines --------------------------------------------------------------------------------


def _lanes(section: Section, index: int) -> Markup:
    says = (
        "One mark for each event, in the order of the trace (between vCPUs: as the recorder saw "
        "it)."
        f"{render_modelled.shared(section)}"
    )
    return join(figure(section.events, f"t{index}-lanes", says), _host_writes(section))


def _host_writes(section: Section) -> Markup | None:
    """Say where the events of user space come from: a recorder may have made them up."""
    count = sum(mark.host for mark in section.events.marks)
    if not count:
        return None
    says = section.trace.header.host_writes
    basis = Basis.MODELLED if says.startswith(Basis.MODELLED) else Basis.COUNTED
    note = f" {count:,} thin marks are writes by user space. Of them the trace says: {says}"
    return el("p", badge(basis), note, class_="note")


def _requests(section: Section, index: int) -> Markup:
    found = section.requests
    says = (
        f"One mark for each request of {section.policy.name} ({section.policy.says}), at the "
        "event that asks. An event has an order and no duration: who zaps and who waits is "
        "modelled below."
        f"{render_modelled.shared(section)}"
    )
    if not found.marks:
        return el("p", badge(found.basis), f" {section.policy.name} requests nothing here.")
    return figure(found, f"t{index}-requests", says)


def _costs(section: Section, _: int) -> Markup:
    costs = section.costs
    taken = [cost.cost_ns for cost in costs]
    caption = join(
        badge(Basis.MEASURED),
        f" {len(taken):,} successful MTRR writes took {_us(sum(taken))} µs, half of them up to "
        f"{_us(median(taken))}, the longest {_us(max(taken))}: from the exit to the next entry, "
        "whatever KVM did in between included, on that host and under that load.",
    )
    rows = [
        [
            number(cost.event),
            number(cost.vcpu),
            m.name(cost.msr),
            f"{cost.value:#x}",
            TableCell(_us(cost.cost_ns), cost.cost_ns, cost.cost_ns / max(1, *taken)),
        ]
        for cost in costs
    ]
    columns = ["event", "vCPU", "register", "value", "µs"]
    each = join(badge(Basis.MEASURED), " From exit to entry")
    made = table(each, columns, rows, numbers=frozenset(("event", "vCPU", "µs")))
    summary = f"Each of the {len(taken):,} writes"
    return join(el("p", caption, class_="note"), el("details", el("summary", summary), made))


def _kernel(section: Section, _: int) -> Markup:
    columns = ["event", "vCPU", "line", "gfns", "µs", "leaves", "caller"]
    found = [
        [number(row.event), number(row.vcpu), *row[2:5], number(row.leaves), row.caller]
        for row in zap_rows(section.trace)
    ]
    caption = join(
        badge(Basis.MEASURED),
        " Calls of kvm_zap_gfn_range, as kprobes on the host saw them: when the kernel itself "
        "zapped, what, and how long it took.",
    )
    alike: dict[str, list[str]] = {}
    for row in section.policies:
        alike.setdefault(row.kernel_difference or "equal, range by range", []).append(row.policy)
    said = [el("li", el("strong", ", ".join(names)), f": {what}") for what, names in alike.items()]
    numbers = frozenset(("event", "vCPU", "µs", "leaves"))
    heading = el("p", "Beside each policy's requests, the first difference:", class_="note")
    return join(table(caption, columns, found, numbers=numbers), heading, el("ul", *said))


def _us(nanoseconds: float) -> str:
    return f"{nanoseconds / 1000:,.1f}"


# ---- maps -------------------------------------------------------------------------------------


def _maps(section: Section, index: int) -> Markup:
    found = section.maps
    if not found.changes:
        return el("p", badge(Basis.COUNTED), " No update window, hence no map that changes.")
    symbols = [symbol(f"t{index}-map{each.number}", each.rows) for each in found.maps]
    columns = ["window", "vCPU", "first event", "last event", "CD\u00a0=\u00a01", "DEF_TYPE writes"]
    columns += ["other MTRR writes", "overlaps vCPUs", "map before", "map after"]
    rows = [_change(n, change, index) for n, change in enumerate(found.changes, start=1)]
    caption = join(
        badge(Basis.COUNTED),
        f" Update windows: {len(rows)}; different maps: {len(found.maps)}. A window "
        "goes from the event that sets CD or disables the MTRRs to the one after which neither "
        "holds; maps are of its vCPU, by KVM's reading, CD not looked at.",
    )
    numbers = frozenset(columns[:4] + columns[5:7])
    hidden = f"The maps of {found.hidden} further register states are not shown."
    return join(
        definitions(symbols),
        _types(),
        *(_map(each) for each in found.maps),
        el("p", hidden, class_="more") if found.hidden else None,
        table(caption, columns, rows, numbers=numbers),
    )


def _types() -> Markup:
    names = ("WB", "UC", "WC", "WT", "WP")
    keys = [el("li", el("i", class_=f"t-{name}"), name) for name in names]
    keys.append(el("li", el("i", class_="t-none"), "undefined by the manual"))
    note = "Widths grow with the logarithm of the size; low addresses are at the left."
    return join(el("ul", *keys, class_="legend types"), el("p", note, class_="note"))


def _change(n: int, change: Change, index: int) -> list[object]:
    window = change.window
    return [
        number(n),
        number(window.vcpu),
        number(window.first),
        TableCell("open", 1 << 60) if window.last is None else number(window.last),
        "yes" if window.cd else "no",
        number(window.def_type_writes),
        number(window.other_writes),
        TableCell(text.numbers(sorted(window.others)) or "-", len(window.others)),
        _drawn(change.before, index),
        _drawn(change.after, index),
    ]


def _drawn(number_: int | None, index: int) -> TableCell:
    if number_ is None:
        return TableCell("not shown", 1 << 30)
    drawn = use(f"t{index}-map{number_}", f"map {number_}")
    return TableCell(el("span", drawn, f" {number_}", class_="map-cell"), number_)


def _map(shown: NumberedMap) -> Markup:
    rows = shown.rows
    strips = [strip(rows, manual=False, label="KVM")]
    if any(row.sdm is not row.kvm for row in rows):
        strips.append(strip(rows, manual=True, label="manual"))
    state = "" if shown.enabled else " (MTRRs disabled)"
    summary = f"Map {shown.number}{state}: {len(rows)} range{'s'[: len(rows) != 1]}"
    columns = ["from", "to", "KVM", "manual", "decided by", "remark"]
    listed = table(
        join(badge(Basis.COUNTED), f" Map {shown.number}, addresses in bytes, end exclusive"),
        columns,
        [_range(row) for row in rows],
        sortable=False,
    )
    more = None if shown.whole else el("p", "… and more ranges", class_="more")
    details = el("details", el("summary", summary), listed, more)
    return el("div", *strips, details, class_="map")


def _range(row: MapRow) -> list[object]:
    span = " to ".join(dict.fromkeys(row.sdm_deciders))
    if not all(name.startswith("FIX") for name in row.sdm_deciders):
        span = ", ".join(row.sdm_deciders)
    manual = "undefined" if row.sdm is None else row.sdm
    return [f"{row.start:#x}", f"{row.end:#x}", row.kvm, manual, span, row.verdict]


# ---- policies ---------------------------------------------------------------------------------


def _policies(section: Section, _: int) -> Markup:
    columns = ["policy", "requests", "published", "ranges", "frames asked for", "entries zapped"]
    columns += ["visits", "stale types"]
    rows = section.policies
    caption = join(
        badge(Basis.COUNTED),
        " Requests, ranges and frames follow from the trace. Entries and visits are upper bounds: "
        "they assume that all memory is mapped before every walk, where memslots allow it, on one "
        "root, uncontended. Published: by the cover letter of the series' v4. Bars are linear in "
        "each column.",
    )
    return table(
        caption,
        columns,
        [_policy(row, rows, section.policy.name) for row in rows],
        numbers=frozenset(columns[1:-1]),
    )


def _policy(
    row: compare.CompareRow, rows: tuple[compare.CompareRow, ...], shown: str
) -> list[object]:
    name = el("strong", row.policy) if row.policy == shown else row.policy
    return [
        TableCell(name, row.policy),
        number(row.requests, max(r.requests for r in rows)),
        number(row.published),
        number(row.ranges),
        number(row.frames, max(r.frames or 0 for r in rows)),
        number(row.entries, max(r.entries or 0 for r in rows)),
        number(row.visits, max(r.visits or 0 for r in rows)),
        _verdict(row.verdict),
    ]


def _verdict(verdict: str) -> TableCell:
    return TableCell(el("span", verdict, class_=f"verdict {verdict.split()[0]}"), verdict)


def _stale(section: Section, _: int) -> Markup:
    columns = [name.replace("_", " ") for name in section.verdicts[0]._fields]
    rows = [
        [
            row.policy,
            TableCell(
                el("span", row.verdict, class_=f"verdict {row.verdict.split()[0]}"), row.verdict
            ),
            *(number(value) for value in row[2:]),
        ]
        for row in section.verdicts
    ]
    caption = join(
        badge(Basis.COUNTED),
        " May an entry keep a type that no vCPU would install any more? “Right”: never. “Window "
        "only”: while some vCPU is in its update window. “Stale”: afterwards, too; these are the "
        "defects. Asked and needed are frames inside memslots.",
    )
    findings = ["gfns", "stale type", "right is", "times", "since event", "outside all windows"]
    findings += ["until event"]
    groups = [
        table(
            join(badge(Basis.COUNTED), " Stale under ", el("b", ", ".join(group.policies))),
            findings,
            [[*row[:3], number(row.times), *row[4:]] for row in group.rows],
            numbers=frozenset(("times",)),
        )
        for group in section.stale
    ]
    return join(table(caption, columns, rows, numbers=frozenset(columns[2:])), *groups)
