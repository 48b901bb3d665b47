"""Follow a trace under a policy, and find the entries that outlive their type.

Between two events any running vCPU may fault on any page, any number of times. Let G(p) be the
types that the vCPUs would install on part p after an event, and S(p) the types that entries on p
may have before it. The event's request removes from S(p) what it zaps. After the event, entries on
p may have the types S'(p): what is left of S(p), united with G(p). KVM changes the vCPU's state
first and zaps after that; a fault that is under way during the zap is retried.

A type in S'(p) but not in G(p) is *stale*: an entry may have it that no vCPU would install now.
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from mtrrzap.gfn import Range
from mtrrzap.guest.event import Kind as EventKind
from mtrrzap.guest.trace import Trace
from mtrrzap.kvm.audit.parts import Episode, Episodes
from mtrrzap.kvm.audit.views import View, Views, memslots
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host, Transition, steps
from mtrrzap.kvm.vcpu import Vcpu, power_on
from mtrrzap.x86.ept import EptType

Type = EptType | None
Types = dict[Type, int]
"""Type -> parts."""


class Finding(NamedTuple):
    """A stale type that may survive on ``range`` from after event ``begin`` until ``end``.

    Events are positions in the trace. From event ``begin`` on no vCPU would install the type any
    more, and no zap has removed the entry. ``end`` is the event that ended this, None if nothing
    did; ``zapped`` is True if that was a zap, False if a vCPU would install the type again.
    ``now`` is what the vCPUs would install at ``begin``.
    """

    range: Range
    type: EptType
    now: tuple[EptType, ...]
    begin: int
    end: int | None
    zapped: bool
    quiet: tuple[tuple[int, int | None], ...]
    """The intervals of events, inside this one, in which no vCPU is in an update window."""

    @property
    def defect(self) -> bool:
        """It is still there after every vCPU has left its update window."""
        return bool(self.quiet)


class Disagreement(NamedTuple):
    """vCPUs install different types on a range, though none is in its update window."""

    range: Range
    types: tuple[EptType, ...]
    begin: int
    end: int | None


class Need(NamedTuple):
    """What of a request was needed, in frames inside memslots."""

    event: int
    asked: int
    """Frames in the request's ranges; a frame in two ranges counts once."""
    needed: int
    """Of those, frames on which an entry may have had a stale type."""


class AuditVerdict(NamedTuple):
    """The result of one policy on one trace."""

    word: str
    """``right``: nothing is ever stale. ``window only``: something is, but only while some vCPU is
    in its update window. ``stale``: something is after every vCPU has left it."""
    parts: int
    """Separate ranges of frames that are ever stale in the sense of ``word``."""
    event: int | None
    """The first event that made something stale in the sense of ``word``."""

    def __str__(self) -> str:
        """Return ``stale (3 parts, event 17)``, or the word alone if nothing is stale."""
        if self.event is None:
            return self.word
        return f"{self.word} ({self.parts} part{'s'[: self.parts > 1]}, event {self.event})"


class Audit(NamedTuple):
    """All that was found, in order of events."""

    findings: tuple[Finding, ...]
    disagreements: tuple[Disagreement, ...]
    needs: tuple[Need, ...]

    @property
    def defects(self) -> tuple[Finding, ...]:
        """The findings that outlive the update windows."""
        return tuple(finding for finding in self.findings if finding.defect)

    @property
    def verdict(self) -> AuditVerdict:
        """The audit in a word."""
        chosen = self.defects or self.findings
        if not chosen:
            return AuditVerdict("right", 0, None)
        word = "stale" if self.defects else "window only"
        stretches = 0
        last = -1
        for start, end in sorted({finding.range for finding in chosen}):
            stretches += start > last
            last = max(last, end)
        return AuditVerdict(word, stretches, min(finding.begin for finding in chosen))


def audit(trace: Trace, policy: Policy, host: Host | None = None) -> Audit:
    """Audit a policy on a trace.

    The vCPUs that run are those with a WRMSR or a CR0 write of their own anywhere in the trace.
    """
    where = host or Host()
    mask = MtMask(policy, where)
    found = list(steps(trace, policy, where))
    start = power_on(trace.header.maxphyaddr)
    views = Views(
        memslots(trace.header, mask),
        mask,
        {start, *(step.after for step in found)},
        {r for step in found if step.request is not None for r in step.request.ranges},
    )
    guest_made = (EventKind.WRMSR, EventKind.CR0)
    states = {event.vcpu: start for event in trace.events if event.kind in guest_made}
    # A capture of a guest that ran already begins with what its registers held: no change, no zap.
    first = list(takewhile(lambda step: trace.events[step.event].kind in _HELD, found))
    states |= {step.vcpu: step.after for step in first if step.vcpu in states}
    run = _Run(views, states)
    for step in found[len(first) :]:
        run.step(step)
    return run.result()


_HELD = (EventKind.HELD_CR0, EventKind.HELD_MSR)


class _Run:
    """The state after each event: who installs what, what may be present, what is stale."""

    def __init__(self, views: Views, running: dict[int, Vcpu]) -> None:
        self._views = views
        self._view = {vcpu: views.of(state) for vcpu, state in running.items()}
        self._updating = {vcpu: state.updating for vcpu, state in running.items()}
        self._busy = sum(self._updating.values())
        self._current: dict[int, tuple[View, int]] = {}
        self._present: View = {}
        for view in self._view.values():
            self._count(view, 1)
        self._fault()
        self._types: Types = _types(self._present)
        self._stale: Episodes[Type, Types] = Episodes()
        self._differ: Episodes[None, Types] = Episodes()
        self._quiet: list[tuple[int, int | None]] = [] if self._busy else [(0, None)]
        self._needs: list[Need] = []

    def step(self, step: Transition) -> None:
        """Take an event in."""
        changed = self._follow(step)
        if step.request is not None:
            self._zap(step.event, step.request.ranges)
        elif not changed:
            return
        stale = self._close()
        self._stale.update(step.event, stale, self._types)
        self._differ.update(step.event, self._differing(), self._types)

    # -- the vCPUs

    def _count(self, view: View, change: int) -> None:
        """Count the vCPUs that have a view; equal views are one object."""
        number = self._current.get(id(view), (view, 0))[1] + change
        if number:
            self._current[id(view)] = view, number
        else:
            self._current.pop(id(view), None)

    def _follow(self, step: Transition) -> bool:
        """Take over a vCPU's new state; return whether anything can differ now."""
        vcpu = step.vcpu
        if vcpu not in self._view:
            return False
        updating = step.after.updating
        turned = updating != self._updating[vcpu]
        if turned:
            self._updating[vcpu] = updating
            self._busy += 1 if updating else -1
            if self._busy == 0:
                self._quiet.append((step.event, None))
            elif self._quiet and self._quiet[-1][1] is None:
                self._quiet[-1] = (self._quiet[-1][0], step.event)
        before, after = self._view[vcpu], self._views.of(step.after)
        if before is not after:
            self._view[vcpu] = after
            self._count(before, -1)
            self._count(after, 1)
            self._types = {}
            for view, _ in self._current.values():
                for (kind, _), mask in view.items():
                    self._types[kind] = self._types.get(kind, 0) | mask
        return turned or before is not after

    def _differing(self) -> dict[None, int]:
        """Return the parts on which the vCPUs install different types, if all are outside."""
        if self._busy or len(self._current) < 2:
            return {}
        once = twice = 0
        for mask in self._types.values():
            twice |= once & mask
            once |= mask
        return {None: twice} if twice else {}

    # -- the entries

    def _zap(self, event: int, ranges: tuple[Range, ...]) -> None:
        cleared = self._views.zapped(ranges)
        needed = 0
        for (kind, level), mask in self._present.items():
            needed |= mask & cleared[level] & ~self._types.get(kind, 0)
            self._present[kind, level] = mask & ~cleared[level]
        frames = self._views.parts.frames
        self._needs.append(Need(event, frames(cleared[1]), frames(needed)))

    def _fault(self) -> None:
        present = self._present
        for view, _ in self._current.values():
            for key, mask in view.items():
                present[key] = present.get(key, 0) | mask

    def _close(self) -> Types:
        """Let every vCPU fault everywhere; return what is stale."""
        self._fault()
        stale: Types = {}
        for (kind, _), mask in self._present.items():
            if old := mask & ~self._types.get(kind, 0):
                stale[kind] = stale.get(kind, 0) | old
        return stale

    # -- the conclusions

    def result(self) -> Audit:
        findings = [f for episode in self._stale.all() for f in self._findings(episode)]
        differ = [d for episode in self._differ.all() for d in self._disagreements(episode)]
        findings.sort(key=lambda f: (f.begin, f.range, f.type))
        differ.sort(key=lambda d: (d.begin, d.range))
        return Audit(tuple(findings), tuple(differ), tuple(self._needs))

    def _findings(self, episode: Episode[Type, Types]) -> Iterator[Finding]:
        kind, mask, begin, end, context, after = episode
        assert kind is not None, "an entry of NPT has no type that could be stale"
        wanted_again = mask & after.get(kind, 0) if after else 0
        quiet = self._quiet_in(begin, end)
        for part, zapped in ((mask & ~wanted_again, end is not None), (wanted_again, False)):
            for same, now in _alike(part, context):
                for r in self._views.parts.ranges(same):
                    yield Finding(r, kind, now, begin, end, zapped, quiet)

    def _disagreements(self, episode: Episode[None, Types]) -> Iterator[Disagreement]:
        for same, now in _alike(episode.mask, episode.context):
            for r in self._views.parts.ranges(same):
                yield Disagreement(r, now, episode.begin, episode.end)

    def _quiet_in(self, begin: int, end: int | None) -> tuple[tuple[int, int | None], ...]:
        """Cut the quiet intervals to ``[begin, end)``."""
        found: list[tuple[int, int | None]] = []
        index = max(0, bisect_right(self._quiet, begin, key=lambda pair: pair[0]) - 1)
        for first, last in self._quiet[index:]:
            if end is not None and first >= end:
                break
            if last is not None and last <= begin:
                continue
            stop = end if last is None or (end is not None and end < last) else last
            found.append((max(first, begin), stop))
        return tuple(found)


def _types(view: View) -> Types:
    found: Types = {}
    for (kind, _), mask in view.items():
        found[kind] = found.get(kind, 0) | mask
    return found


def _alike(mask: int, types: Types) -> Iterator[tuple[int, tuple[EptType, ...]]]:
    groups: list[tuple[int, tuple[EptType, ...]]] = [(mask, ())]
    for kind, where in types.items():
        assert kind is not None, "NPT has one type, so nothing is stale and nobody disagrees"
        split = [(m & where, (*now, kind)) for m, now in groups]
        groups = [(m & ~where, now) for m, now in groups] + split
        groups = [group for group in groups if group[0]]
    yield from ((m, tuple(sorted(now))) for m, now in groups)
