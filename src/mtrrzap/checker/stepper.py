"""One step at a time over the tables: successors and canonical forms, in plain Python.

This is what the compiled search must agree with, what small searches use, and what turns a path of
numbers back into a schedule.
"""

from collections.abc import Iterator
from typing import NamedTuple

from mtrrzap.checker.model import Effect, Model, State

_UNKNOWN = object()


class Move(NamedTuple):
    """One transition: who, by which of its alternatives, to which state, raising which flags."""

    vcpu: int
    choice: int
    after: State
    flags: int


class Stepper:
    """Successors of states, with every looked-up effect remembered."""

    def __init__(self, model: Model, *, symmetry: bool = True) -> None:
        """``symmetry`` merges states that differ only in which vCPU of a group is which."""
        self.model = model
        self._vcpus = model.vcpus
        groups = model.groups
        self._pairs = [i for i in range(model.vcpus - 1) if symmetry and groups[i] == groups[i + 1]]
        self.runs = _runs(self._pairs)
        self._effects: dict[tuple[int, int, int], Effect | None] = {}
        self._ghost_steps: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._keys: dict[tuple[int, int], int] = {}
        self._swaps: dict[tuple[int, int], int] = {}
        self._options: list[tuple[tuple[int, int], ...]] = []

    def options(self, local: int) -> tuple[tuple[int, int], ...]:
        """Return ``(choice, position of the object's value in a state)`` for a local state."""
        while len(self._options) <= local:
            number = len(self._options)
            self._options.append(
                tuple(
                    (choice, self._vcpus + option.target)
                    for choice, option in enumerate(self.model.alternatives[number])
                )
            )
        return self._options[local]

    def moves(self, state: State) -> Iterator[Move]:
        """Yield every enabled transition, in the order of vCPUs and alternatives."""
        effects = self._effects
        for vcpu in range(self._vcpus):
            local = state[vcpu]
            for choice, at in self.options(local):
                key = (local, choice, state[at])
                effect = effects.get(key, _UNKNOWN)
                if effect is _UNKNOWN:
                    effect = effects[key] = self.model.effect(*key)
                if effect is not None:
                    yield self._move(state, vcpu, choice, at, effect)  # type: ignore[arg-type]

    def _move(self, state: State, vcpu: int, choice: int, at: int, effect: Effect) -> Move:
        after = list(state)
        after[vcpu] = effect.local
        after[at] = effect.value
        flags = effect.flags
        if effect.event >= 0:
            after[-1], raised = self._ghost_step(state[-1], effect.event, vcpu)
            flags |= raised
        return Move(vcpu, choice, tuple(after), flags)

    def _ghost_step(self, ghost: int, event: int, vcpu: int) -> tuple[int, int]:
        key = (ghost, event, vcpu)
        known = self._ghost_steps.get(key)
        if known is None:
            known = self._ghost_steps[key] = self.model.event_step(*key)
        return known

    def finished(self, state: State) -> bool:
        """Say whether every vCPU has made all its requests."""
        return all(self.model.finished(local) for local in state[: self._vcpus])

    def canonical(self, state: State, order: list[int] | None = None) -> State:
        """Sort interchangeable vCPUs by local state, then by their share of the ghost.

        ``order``, if it is given, lists the vCPUs' names and is sorted along with them.
        """
        if not self._pairs:
            return state
        locals_ = list(state[: self._vcpus])
        ghost = state[-1]
        keys = [self._key(ghost, vcpu) for vcpu in range(self._vcpus)]
        for first, last in self.runs:
            for i in range(first + 1, last + 1):
                j = i
                while j > first and (locals_[j - 1], keys[j - 1]) > (locals_[j], keys[j]):
                    locals_[j - 1], locals_[j] = locals_[j], locals_[j - 1]
                    keys[j - 1], keys[j] = keys[j], keys[j - 1]
                    ghost = self._swapped(ghost, j - 1)
                    if order is not None:
                        order[j - 1], order[j] = order[j], order[j - 1]
                    j -= 1
        return (*locals_, *state[self._vcpus : -1], ghost)

    def _key(self, ghost: int, vcpu: int) -> int:
        known = self._keys.get((ghost, vcpu))
        if known is None:
            known = self._keys[ghost, vcpu] = self.model.ghost_key(ghost, vcpu)
        return known

    def _swapped(self, ghost: int, vcpu: int) -> int:
        known = self._swaps.get((ghost, vcpu))
        if known is None:
            known = self._swaps[ghost, vcpu] = self.model.ghost_swapped(ghost, vcpu)
        return known


def _runs(pairs: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for pair in pairs:
        if runs and runs[-1][1] == pair:
            runs[-1] = (runs[-1][0], pair + 1)
        else:
            runs.append((pair, pair + 1))
    return runs
