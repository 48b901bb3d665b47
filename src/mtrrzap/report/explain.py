"""The timeline of one policy on one trace: who asks, who zaps, who waits for whom."""

from collections.abc import Iterator

from mtrrzap.simulator import Result, Served, Stretch
from mtrrzap.study.units import millions

COLUMNS = (
    *("event", "vcpu", "why", "begin", "end", "walks", "waited for"),
    *("waiting", "walking", "yielding", "flushing", "operating"),
)
"""Times and cycles are modelled, in millions."""
DROPPABLE = ("operating", "flushing", "yielding", "walking", "later", "walks", "waiting")
"""Columns of both tables left out, in this order, where the terminal is too narrow for all."""


def lines(result: Result, *, timed: bool = True) -> Iterator[tuple[object, ...]]:
    """Yield the requests in the order in which they began.

    ``timed`` False: the guest's memory is unknown, and so is all that depends on it.
    """
    if not timed:
        for s in sorted(result.served, key=lambda s: s.event):
            yield s.event, s.vcpu, str(s.why), *(None for _ in COLUMNS[3:])
        return
    for s in sorted(result.served, key=lambda s: (s.begin, s.vcpu)):
        yield (
            *(s.event, s.vcpu, str(s.why), f"{s.begin / 1e6:.3f}", f"{s.end / 1e6:.3f}"),
            *(s.zaps, _whom(s), *(f"{part / 1e6:.3f}" for part in s.spent)),
        )


def _whom(served: Served) -> str:
    return "-" if served.waited_for is None else f"vCPU {served.waited_for}"


def phases(result: Result) -> Iterator[tuple[object, ...]]:
    """Yield what each phase cost."""
    for p in result.phases:
        yield (
            *(p.first, p.stage.name.lower().replace("_", " "), p.vcpus, p.running),
            *(_whole(p.spent.total), *(_whole(part) for part in p.spent), _whole(p.later)),
        )


def _whole(cycles: float) -> float:
    """Return millions of cycles; less than half a cycle is an error of rounding."""
    return millions(round(cycles))


PHASES = (
    *("from event", "stage", "vCPUs that ask", "vCPUs that run", "cycles"),
    *("waiting", "walking", "yielding", "flushing", "operating", "later"),
)


def as_data(result: Result, incomplete: str | None, *, timed: bool = True) -> dict[str, object]:
    """Return everything as plain data; cycles are not rounded to millions. ``timed``: ``lines``."""
    if not timed:
        unknown = ("cycles", "later", "longest_wait", "phases", "vcpus")
        asked = sorted(result.served, key=lambda s: s.event)
        return {
            "modelled": True,
            "incomplete": incomplete,
            **dict.fromkeys(unknown),
            "requests": [{"event": s.event, "vcpu": s.vcpu, "why": str(s.why)} for s in asked],
        }
    return {
        "modelled": True,
        "incomplete": incomplete,
        "cycles": round(result.cycles),
        "later": round(result.later),
        "longest_wait": round(result.longest),
        "requests": [
            s._asdict()
            | {"why": str(s.why), "spent": _rounded(s.spent._asdict())}
            | {"stretches": [_stretch(stretch) for stretch in s.stretches]}
            for s in result.served
        ],
        "phases": [
            p._asdict() | {"stage": p.stage.name, "spent": _rounded(p.spent._asdict())}
            for p in result.phases
        ],
        "vcpus": {v: _rounded(spent._asdict()) for v, spent in sorted(result.by_vcpu().items())},
    }


def _stretch(stretch: Stretch) -> dict[str, object]:
    walked = None if stretch.range is None else [stretch.range.start, stretch.range.end]
    return {
        "begin": round(stretch.begin),
        "end": round(stretch.end),
        "walks": walked,
        "waits_for": stretch.waited_for,
    }


def _rounded(parts: dict[str, float]) -> dict[str, int]:
    return {name: round(cycles) for name, cycles in parts.items()}
