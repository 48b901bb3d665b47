"""The watched call, and what is remembered of it: which zaps count, and who knows of them.

One frame of the watched call is enough at a time. The call may return when a zap that covers the
frame has begun after the call was made, and has ended (*lost zap*), and the watched vCPU comes
after that end in the order that acquires and releases make (*ordering*). So this is remembered:

- of another vCPU: whether the zap that it is in counts, and whether it *knows*, which is to come
  after the end of a zap that counts;
- of each object: whether it *publishes* that, which is whether an acquire of it makes one know;
- whether a zap that counts has *ended* at all.

As soon as the watched vCPU knows, nothing can go wrong with this frame any more, and the control is
left out. What a vCPU has learned in an earlier call is forgotten: to know less is never better, so
nothing bad is missed. The rules are those of :mod:`properties.ordering`, for one call and one
frame.

Which frames are watched: if every zap that covers frame *f* covers frame *g* as well, then *g* is
zapped, and known to be, no later than *f*. So of the frames of a request only those are watched
that no other frame of it stands for in this way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mtrrzap.checker.any_number.alike import Alike
from mtrrzap.checker.any_number.steps import IDLE, Effect, Step, Steps
from mtrrzap.checker.any_number.views import Graph, Views, bits
from mtrrzap.checker.explore import Progress
from mtrrzap.checker.properties import lost_zap, ordering
from mtrrzap.checker.result import Limits
from mtrrzap.protocol.meaning import Sync


class Control(NamedTuple):
    """Values, the watched vCPU's local state, the objects that publish, as bits, and the end."""

    values: int
    watched: int
    published: int
    ended: bool


class Other(NamedTuple):
    """Another vCPU: its local state, whether its zap counts, and whether it knows."""

    local: int
    counts: bool
    knows: bool


class Watch:
    """The views of calls that are watched for one atom of frames."""

    def __init__(
        self,
        steps: Steps,
        alike: Alike,
        atom: int,
        kinds: tuple[int, ...],
        *,
        wanted: int,
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Watch the calls for the requests number ``kinds``, which all contain atom ``atom``.

        ``wanted`` are the flags of the properties in question. Without *ordering*, what follows
        after a zap that counts has ended is left out.
        """
        self.atom = atom
        self.kinds = kinds
        self.wanted = wanted
        self._steps, self._alike = steps, alike
        self.others: list[Other] = []
        self._numbers: dict[Other, int] = {}
        self._effects: list[Effect] = []
        self.bad = 0
        """The flags of the properties that a view violates."""
        self.views: Views[Control] = Views(self._moves, self._own, self._shifted, limits, progress)

    def close(self, anonymous: dict[int, Graph]) -> None:
        """Compute the views, from those of vCPUs of which none is watched.

        Stops as soon as a view violates one of the properties in question.

        Raises:
            CutError: if a limit is reached first.
        """
        for values, graph in anonymous.items():
            for kind in self.kinds:
                self._call(values, graph, kind)
        self.views.close(lambda: bool(self.bad & self.wanted))

    def _call(self, values: int, graph: Graph, kind: int) -> None:
        """Let a vCPU that was idle make its call, with all who may be there at that time."""
        present = graph.get(IDLE, 0)
        for control, by in self._watched(Control(values, IDLE, 0, False), kind):
            for node in bits(present):
                row = 0
                for other in bits(graph[node] & present):
                    row |= 1 << self._plain(other, by)
                self.views.add(control, self._plain(node, by), row)

    def _plain(self, local: int, by: int) -> int:
        return self._number(Other(self._alike.shifted(local, by), False, False))

    def _number(self, other: Other) -> int:
        known = self._numbers.get(other)
        if known is None:
            known = self._numbers[other] = len(self.others)
            self.others.append(other)
        return known

    def _shifted(self, node: int, by: int) -> int:
        if not by:
            return node
        other = self.others[node]
        return self._number(other._replace(local=self._alike.shifted(other.local, by)))

    def _effect(self, number: int) -> Effect:
        """Return an effect with its atoms told apart from the watched one only."""
        while len(self._effects) <= number:
            found: Effect = self._steps.effects.items[len(self._effects)]
            self._effects.append(
                found._replace(begun=self._covers(found.begun), ended=self._covers(found.ended))
            )
        return self._effects[number]

    def _covers(self, atoms: int) -> int:
        return atoms if atoms < 0 else atoms >> self.atom & 1

    def _moves(self, control: Control, node: int) -> list[tuple[Control, int, int]]:
        other = self.others[node]
        found = []
        for step in self._alike.steps(control.values, other.local):
            after, moved = self._moved(control, other, step)
            if not after.ended or self.wanted & ordering.FLAG:
                found.append((after, self._number(moved), step.shift))
        return found

    def _moved(self, control: Control, other: Other, step: Step) -> tuple[Control, Other]:
        effect = self._effect(step.effect)
        published, ended = control.published, control.ended
        counts, knows = other.counts, other.knows
        if effect.sync:
            knows = knows or acquires(effect.sync, published)
            published = published_after(effect.sync, published, knows=knows)
        if effect.begun >= 0:
            counts = bool(effect.begun)
        if effect.ended >= 0:
            ended, knows = ended or counts, knows or counts
            counts = False
        if effect.returns:
            knows = False
        watched = self._alike.shifted(control.watched, step.shift)
        after = Control(step.values, watched, published, ended)
        return after, Other(step.local, counts, knows)

    def _own(self, control: Control) -> list[tuple[Control, int]]:
        return list(self._watched(control))

    def _watched(self, control: Control, kind: int = -1) -> Iterator[tuple[Control, int]]:
        """Yield the steps of the watched vCPU after which it does not know yet."""
        if kind < 0:
            steps = self._alike.steps(control.values, control.watched)
        else:
            steps = self._alike.calls(control.values, kind)
        for step in steps:
            effect = self._effect(step.effect)
            published = control.published
            knows = effect.ended > 0
            if effect.sync:
                knows = knows or acquires(effect.sync, published)
                published = published_after(effect.sync, published, knows=False)
            if knows:
                continue
            if effect.returns:
                self.bad |= ordering.FLAG if control.ended else lost_zap.FLAG
                continue
            after = Control(step.values, step.local, published, control.ended)
            yield after, step.shift


def acquires(sync: Sync, published: int) -> bool:
    """Say whether a step reads, with acquire, from an object that publishes."""
    return sync.acquires and bool(published >> sync.target & 1)


def published_after(sync: Sync, published: int, *, knows: bool) -> int:
    """Return which objects publish after a step by a vCPU that knows, or does not."""
    bit = 1 << sync.target
    if sync.stores:
        published &= ~bit
        return published | bit if sync.releases and knows else published
    return published | bit if sync.exchanges and knows else published


def watches(steps: Steps) -> list[tuple[int, tuple[int, ...]]]:
    """Return the atoms of frames to watch, and for each the numbers of the requests it is for."""
    effects: list[Effect] = steps.effects.items
    zaps = {effect.ended for effect in effects if effect.ended >= 0}

    def covers(atom: int) -> frozenset[int]:
        return frozenset(zap for zap in zaps if zap >> atom & 1)

    found: dict[int, list[int]] = {}
    all_atoms = lost_zap.Atoms(steps.model.scenario)
    for kind in range(len(steps.kinds)):
        asked = all_atoms.mask(steps.kinds[kind])
        atoms = {atom: covers(atom) for atom in bits(asked)}
        for atom, mine in atoms.items():
            stands_for_me = any(
                theirs < mine or (theirs == mine and other < atom)
                for other, theirs in atoms.items()
            )
            if not stands_for_me:
                found.setdefault(atom, []).append(kind)
    return [(atom, tuple(kinds)) for atom, kinds in found.items()]
