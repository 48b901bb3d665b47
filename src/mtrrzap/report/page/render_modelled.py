"""The modelled parts of a trace's section; each says so, and by what factor it is wrong."""

from mtrrzap.report.page.figure import badge, figure
from mtrrzap.report.page.markup import Markup, TableCell, el, join, number, table
from mtrrzap.report.page.modelled import Share
from mtrrzap.report.page.section import MAX_MODELLED, Section
from mtrrzap.report.page.timeline import Basis, sharing
from mtrrzap.report.text import MEMORY_UNKNOWN
from mtrrzap.simulator import cost_model, published
from mtrrzap.simulator.arrivals import PATTERNS
from mtrrzap.study.units import mcycles

PUBLISHED_VCPUS = 16
"""The largest guest that figures are published of."""


def error() -> str:
    """Say how far off a modelled figure is."""
    return (
        f"Modelled cycles are accurate to within a factor of {cost_model.error_factor():.2f}: the "
        "geometric error on published figures that they were not fitted to."
    )


def shared(section: Section) -> str:
    """Say how many vCPUs each lane has, if it is more than one."""
    count = sharing(section.trace)
    return f" The guest has many vCPUs: each lane has {count} of them." if count > 1 else ""


def _too_many() -> Markup:
    says = (
        f" Not modelled: a page models guests of up to {MAX_MODELLED} vCPUs, since more take too "
        "long."
    )
    return el("p", badge(Basis.MODELLED), says)


def served(section: Section, index: int) -> Markup:
    """Render one policy's zaps and waits on the model's clock, and what they come to by vCPU."""
    name = section.policy.name
    if not section.trace.header.memory_known:
        return el("p", badge(Basis.MODELLED), f" Unknown: {MEMORY_UNKNOWN}")
    if section.served is None:
        return _too_many()
    if not section.served.marks:
        return el("p", badge(Basis.MODELLED), f" {name} requests nothing: no vCPU zaps or waits.")
    says = (
        f"One mark for each request of {name} where it begins, a bar for each zap (with what "
        "contention for mmu_lock and the TLB flush add) and each wait. The clock is the model's: "
        "it begins with the first request and leaves out the time between phases; it is not that "
        f"of the lanes above. vCPUs arrive in one of {PATTERNS} patterns, over which the costs of "
        f"all policies are averaged. {error()} {_beyond(section)}{shared(section)}"
    )
    return join(figure(section.served, f"t{index}-served", says), _shares(section))


def _beyond(section: Section) -> str:
    """Say what makes the model's figures of this trace worse than that."""
    header = section.trace.header
    said = []
    if header.vcpus > PUBLISHED_VCPUS:
        said.append(f"Nothing is published for {header.vcpus} vCPUs: the error is unknown here.")
    if not header.memory_known:
        said.append(f"Unknown: {MEMORY_UNKNOWN}")
    return " ".join(said)


def _shares(section: Section) -> Markup:
    columns = ["vCPU", "requests", "zaps", "waiting", "walking", "yielding", "flushing"]
    columns += ["operating", "all", "longest request"]
    largest = max((share.spent.total for share in section.shares), default=0.0)
    caption = join(
        badge(Basis.MODELLED),
        " What the requests of each vCPU take, in Mcycles: waiting for another vCPU, walking at "
        "entries, yielding mmu_lock, flushing TLBs, and the operations of the protocol.",
    )
    rows = [_share(share, largest) for share in section.shares]
    return table(caption, columns, rows, numbers=frozenset(columns))


def _share(share: Share, largest: float) -> list[object]:
    return [
        number(share.vcpu),
        number(share.requests),
        number(share.walks),
        *(_mcycles(part) for part in share.spent),
        _mcycles(share.spent.total, largest),
        _mcycles(share.longest),
    ]


def _mcycles(cycles: float, largest: float = 0.0) -> TableCell:
    """Return millions of cycles, with a bar if a largest value is given."""
    return TableCell(mcycles(cycles), round(cycles), cycles / largest if largest else None)


def _millions(value: float | None, largest: float = 0.0) -> TableCell:
    return TableCell("-", -1) if value is None else _mcycles(value * 1e6, largest * 1e6)


def costs(section: Section, _: int) -> Markup:
    """Render what every policy costs by the model, beside what was published."""
    if section.served is None:
        return _too_many()
    known = _published(section)
    columns = ["policy", "modelled Mcycles", *(["published Mcycles"] if known else [])]
    columns += ["modelled longest wait", "modelled later"]
    rows = section.policies
    largest = max((row.modelled_mcycles or 0.0 for row in rows), default=0.0)
    measured = (
        join(
            " ",
            badge(Basis.MEASURED),
            " Published: by the author of the series, on his host; by the cover letter of v4.",
        )
        if known
        else None
    )
    caption = join(
        badge(Basis.MODELLED),
        " Mcycles: what all vCPUs together spend in requests. Longest wait: of one request, for "
        "other vCPUs. Later: what the zaps cost outside of requests, by faults and retries. "
        f"{error()} {_beyond(section)}",
        measured,
    )
    cells = [
        [
            TableCell(el("strong", row.policy), row.policy)
            if row.policy == section.policy.name
            else row.policy,
            _millions(row.modelled_mcycles, largest),
            *([_known(known.get(row.policy))] if known else []),
            _millions(row.modelled_longest_mcycles),
            _millions(row.modelled_later_mcycles),
        ]
        for row in rows
    ]
    return table(caption, columns, cells, numbers=frozenset(columns[1:]))


def _published(section: Section) -> dict[str, float]:
    """Return published Mcycles by policy, if this trace is of a guest that was measured."""
    header = section.trace.header
    if not any(row.published is not None for row in section.policies):
        return {}
    cells = published.mcycles(header.vcpus)
    return {row: value for (guest, _, row), value in cells.items() if guest == header.family}


def _known(value: float | None) -> TableCell:
    return TableCell("-", -1) if value is None else TableCell(f"{value:,.10g}", round(value * 1e6))
