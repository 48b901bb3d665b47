"""Whether a proof's views cover a state that the bounded search reaches, said in another way."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

from mtrrzap.checker.any_number.prove import Proof
from mtrrzap.checker.any_number.steps import IDLE
from mtrrzap.checker.any_number.watched import Control, Other, Watch
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.properties.lost_zap import Atoms
from mtrrzap.protocol import Number, Sequence
from mtrrzap.protocol.atomic import position_of
from mtrrzap.protocol.numbers import counted_from


class Covering:
    """Translates states of a bounded model into a proof's numbers."""

    def __init__(self, proof: Proof, model: Model) -> None:
        self.proof, self.model = proof, model
        self.atoms: dict[Any, int] = {}
        steps = proof.steps
        names = [known.name for known in model.objects]
        self.values = {
            self.typed([steps.shown(i)[name] for name in names]): i
            for i in range(len(steps.values))
        }
        self.locals = {
            self.key(proof.kinds[at.group], at.place, at.held, at.phase): i
            for i in range(1, len(steps.locals))
            for at in (steps.local(i),)
        }
        self.known: dict[tuple[int, int], int] = {}

    @staticmethod
    def typed(values: list[Any]) -> Any:
        return tuple((type(value), value) for value in values)

    @staticmethod
    def key(kind: Any, place: Any, held: Any, phase: int) -> Any:
        return (kind, counted_from(place.key, 0), frozenset(lock.name for lock in held), phase)

    def translated(self, state: State) -> tuple[int, list[int]]:
        """Return the number of the values, and each vCPU's set of local states."""
        vcpus = self.model.vcpus
        objects = self.model.objects
        values = [self.model.values[i].items[state[vcpus + i]] for i in range(len(objects))]
        at = [i for i, known in enumerate(objects) if isinstance(known, Sequence)]
        base = min((position_of(values[i]) for i in at), default=0)
        for i in at:
            values[i] = Number(position_of(values[i]) - base)
        return self.values[self.typed(values)], [self.local(n, base) for n in state[:vcpus]]

    def local(self, number: int, base: int) -> int:
        if (number, base) not in self.known:
            self.known[number, base] = self.learned(number, base)
        return self.known[number, base]

    def learned(self, number: int, base: int) -> int:
        local = self.model.locals.items[number]
        if local.place is None or local.calling:
            return IDLE
        kind = self.model.scenario.requests[self.model.groups.index(local.group)][local.request]
        automaton = self.proof.steps.model.automaton
        place = automaton.replay(kind, counted_from(local.place.results, base))
        at = self.locals[self.key(kind, place, local.held, local.phase)]
        return self.proof.alike.of(at)

    def covers(self, state: State) -> bool:
        """Say whether every two vCPUs are a view without a watched one."""
        values, locals_ = self.translated(state)
        graph = self.proof.anonymous.get(values, {})
        return all(graph.get(a, 0) >> b & 1 for a, b in combinations(locals_, 2))

    def covers_watched(self, state: State, watch: Watch) -> bool:
        """Say the same for every vCPU that may be the watched one, of a model with *ordering*."""
        ghost = self.model.ghosts.items[state[-1]]
        return all(
            self.covers_one(state, ghost, vcpu, watch)
            for vcpu, call in enumerate(ghost.calls)
            if self.is_watched(state, vcpu, watch)
            and not ghost.vcpus[vcpu][vcpu] >> watch.atom & 1
            and (watch.wanted & 8 or not call.zapped >> watch.atom & 1)
        )

    def is_watched(self, state: State, vcpu: int, watch: Watch) -> bool:
        local = self.model.locals.items[state[vcpu]]
        if local.place is None or local.calling:
            return False
        kind = self.model.scenario.requests[self.model.groups.index(local.group)][local.request]
        return self.proof.kinds.index(kind) in watch.kinds

    def covers_one(self, state: State, ghost: Any, vcpu: int, watch: Watch) -> bool:
        values, locals_ = self.translated(state)
        bit = 1 << watch.atom
        published = sum(1 << i for i, known in enumerate(ghost.objects) if known[vcpu] & bit)
        ended = bool(ghost.calls[vcpu].zapped & bit)
        choices = []
        for other in range(self.model.vcpus):
            if other != vcpu:
                counts = self.counts(state, other, ghost.calls[vcpu].zappers, bit)
                knows = bool(ghost.vcpus[other][vcpu] & bit)
                # The views may know less than is known: they forget when a call returns.
                choices.append([Other(locals_[other], counts, k) for k in {knows, False}])
        for less in submasks(published):
            control = Control(values, locals_[vcpu], less, ended)
            graph = watch.views.graphs.get(control, {})
            for others in product(*choices):
                if self.beside_each_other(graph, others, watch):
                    return True
        return False

    def counts(self, state: State, other: int, zappers: int, bit: int) -> bool:
        local = self.model.locals.items[state[other]]
        if local.place is None or not local.phase or not zappers >> other & 1:
            return False
        begun = Atoms(self.model.scenario).mask((local.place.operation.args,))
        return bool(begun & bit)

    @staticmethod
    def beside_each_other(graph: Any, others: tuple[Other, ...], watch: Watch) -> bool:
        numbers = [watch.others.index(each) if each in watch.others else -1 for each in others]
        if -1 in numbers:
            return False
        if len(numbers) == 1:
            return numbers[0] in graph
        return all(graph.get(a, 0) >> b & 1 for a, b in combinations(numbers, 2))


def submasks(bits: int) -> list[int]:
    found = [bits]
    while found[-1]:
        found.append((found[-1] - 1) & bits)
    return found
