"""vCPUs that ask for ever: states in which every number is counted from the lowest in use.

A sequence grows for ever, but a protocol only compares its numbers (:class:`protocol.Number`), so
two states whose numbers differ by the same amount behave alike. Numbers that the sequence has left
behind keep their order and nothing else.
"""

from __future__ import annotations

from typing import Any

from mtrrzap.checker.memory_model import LocalState
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.stepper import Stepper
from mtrrzap.errors import UserError
from mtrrzap.protocol import Number, Operation
from mtrrzap.protocol.atomic import NUMBER_RULE, Sequence


class ForeverStepper(Stepper):
    """A stepper whose canonical form subtracts the lowest sequence's value from all numbers."""

    def __init__(self, model: Model) -> None:
        """``model`` must be that of a scenario that goes on for ever."""
        super().__init__(model, symmetry=False)
        self._sequences = [
            model.vcpus + i for i, known in enumerate(model.objects) if isinstance(known, Sequence)
        ]
        self._shifted: dict[tuple[int, int], int] = {}

    def canonical(self, state: State, order: list[int] | None = None) -> State:  # noqa: ARG002
        """Return the state with its numbers counted from the lowest sequence."""
        if not self._sequences:
            return state
        values = self.model.values
        vcpus = self.model.vcpus
        base = min(values[at - vcpus].items[state[at]].position for at in self._sequences)
        if base == 0:
            return state
        after = list(state)
        for at in self._sequences:
            number = Number(values[at - vcpus].items[state[at]].position - base)
            after[at] = values[at - vcpus].number((Number, number), number)
        for vcpu in range(vcpus):
            after[vcpu] = self._local(state[vcpu], base)
        return tuple(after)

    def _local(self, local: int, base: int) -> int:
        known = self._shifted.get((local, base))
        if known is None:
            at: LocalState = self.model.locals.items[local]
            known = self._shifted[local, base] = self.model.local(self._rebased(at, base))
        return known

    def _rebased(self, at: LocalState, base: int) -> LocalState:
        if at.place is None or not any(isinstance(each, Number) for each in at.place.results):
            return at
        ranges = self.model.scenario.requests[at.group][at.request]
        place = self.model.automaton.replay(ranges, rebased(at.place.results, base))
        if without_numbers(place.key) != without_numbers(at.place.key):
            raise UserError(
                "the protocol does more with a Sequence's number than compare it",
                place=at.place.where,
                mend=NUMBER_RULE,
            )
        return at._replace(place=place)


def without_numbers(key: Any) -> Any:
    """Return a place's key with every number alike: all that moving them may change."""
    if isinstance(key, Number):
        return Number
    if isinstance(key, tuple):
        return tuple(without_numbers(each) for each in key)
    if isinstance(key, Operation):
        return (key.target, key.verb, without_numbers(key.args), key.order)
    return key


def rebased(results: tuple[Any, ...], base: int) -> tuple[Any, ...]:
    """Subtract ``base`` from every number; those below it become -1, -2, … in their order."""
    numbers = {each.position for each in results if isinstance(each, Number)}
    behind = sorted(each for each in numbers if each < base)
    low = {number: i - len(behind) for i, number in enumerate(behind)}
    return tuple(
        Number(low.get(each.position, each.position - base)) if isinstance(each, Number) else each
        for each in results
    )
