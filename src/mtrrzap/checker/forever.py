"""vCPUs that ask for ever: states in which every number is counted from the lowest in use.

A sequence grows for ever, but a protocol only compares its numbers (:class:`protocol.Number`), so
two states whose numbers differ by the same amount behave alike. Numbers that the sequence has left
behind keep their order and nothing else.
"""

from __future__ import annotations

from mtrrzap.checker.memory_model import LocalState
from mtrrzap.checker.model import Model, State, more_than_compared
from mtrrzap.checker.stepper import Stepper
from mtrrzap.protocol import Number, Sequence
from mtrrzap.protocol.atomic import position_of
from mtrrzap.protocol.numbers import counted_from, positions


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
        base = min(position_of(values[at - vcpus].items[state[at]]) for at in self._sequences)
        if base == 0:
            return state
        after = list(state)
        for at in self._sequences:
            number = Number(position_of(values[at - vcpus].items[state[at]]) - base)
            after[at] = values[at - vcpus].number((Number, number), number)
        for vcpu in range(vcpus):
            after[vcpu] = self._local(state[vcpu], base)
        return tuple(after)

    def _local(self, local: int, base: int) -> int:
        known = self._shifted.get((local, base))
        if known is None:
            at: LocalState = self.model.locals.items[local]
            known = self._shifted[local, base] = self.model.local(shifted(self.model, at, base))
        return known


def shifted(model: Model, at: LocalState, base: int) -> LocalState:
    """Return a local state with its numbers counted from ``base`` on.

    Raises:
        UserError: if the protocol does more with them than compare.
    """
    if at.place is None or not positions(at.place.results):
        return at
    place = model.replayed(at, counted_from(at.place.results, base))
    if counted_from(place.key, 0) != counted_from(at.place.key, base):
        raise more_than_compared(place)
    return at._replace(place=place)
