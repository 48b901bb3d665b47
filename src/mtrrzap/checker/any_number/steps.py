"""The steps of one vCPU among any number: which values, which local states, and what a step does.

All vCPUs are alike here. Each asks for ever, and each call is for any one of the given requests. A
vCPU between two calls is *idle*: that is one state, whatever it asked for before.

A configuration is the shared objects' values and one local state for each vCPU. Values and local
states are numbers here; :class:`Steps` learns them by running the protocol, as the bounded search
does. Sequences are counted from the lowest one (see :mod:`forever`), so a step that moves the
lowest sequence also shifts the numbers that all other vCPUs remember: ``Step.shift`` says by how
much.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mtrrzap.checker.forever import shifted
from mtrrzap.checker.memory_model import Alternative, LocalState
from mtrrzap.checker.model import Interned, Model
from mtrrzap.checker.properties.ordering import Ordering
from mtrrzap.checker.scenario import Request, Scenario
from mtrrzap.protocol import Number, Protocol, Sequence
from mtrrzap.protocol.atomic import position_of
from mtrrzap.protocol.meaning import Sync
from mtrrzap.protocol.numbers import counted_from
from mtrrzap.protocol.standing import UnfreezableError, freeze

IDLE = 0
"""The local state of a vCPU between two calls."""


class BeyondError(Exception):
    """The protocol does something that this proof cannot treat; the text says what."""


class Effect(NamedTuple):
    """What a step means to a watched call: atoms as bits, -1 where there is no such event."""

    called: int
    begun: int
    ended: int
    returns: bool
    sync: Sync | None


NOTHING = Effect(-1, -1, -1, False, None)


class Step(NamedTuple):
    """One step: the values and the vCPU's local state after it, the shift, effect and flags."""

    values: int
    local: int
    shift: int
    effect: int
    flags: int


class Steps:
    """What one vCPU can do, learned on demand."""

    def __init__(
        self, protocol: Protocol, kinds: tuple[Request, ...], *, alloc_fails: bool
    ) -> None:
        """``kinds`` are the requests that a call may be for.

        Raises:
            BeyondError: if an object asks which vCPU uses it.
        """
        requests = tuple((kind,) for kind in kinds)
        fails = alloc_fails and protocol.allocates
        scenario = Scenario(protocol, requests, alloc_fails=fails)
        if not scenario.symmetric:
            raise BeyondError("an object's effect depends on which vCPU uses it")
        self.kinds = kinds
        self.model = Model(scenario, Ordering(scenario, protocol.vm.objects()), endless=True)
        self.values = Interned()
        self.effects = Interned()
        self.effects.number(NOTHING, NOTHING)
        self.locals = Interned()
        self.locals.number("idle", None)
        vcpus = self.model.vcpus
        self._sequences = [
            i for i, known in enumerate(self.model.objects) if isinstance(known, Sequence)
        ]
        self._numbers: dict[int, int] = {}
        self.starts = [self._local(local) for local in self.model.initial[:vcpus]]
        self.first, _ = self._values(list(self.model.initial[vcpus:-1]))
        self.shifts: set[int] = set()
        self._known: dict[tuple[int, int], tuple[Step, ...]] = {}
        self._shifted: dict[tuple[int, int], int] = {}

    def check_repeats(self) -> None:
        """See that every call does the same again.

        Raises:
            BeyondError: if it does not: something remembers what no object shows.
        """
        for number in self.locals.items[1:]:
            at: LocalState = self.model.locals.items[number]
            if at.place and self.model.replayed(at, at.place.results).key != at.place.key:
                raise BeyondError(f"at {at.place.where} a call does not do the same again")

    def steps(self, values: int, local: int) -> tuple[Step, ...]:
        """Return every step of a vCPU in ``local`` while the objects have ``values``."""
        known = self._known.get((values, local))
        if known is None:
            origins = self.starts if local == IDLE else [local]
            found = [step for origin in origins for step in self._from(values, origin)]
            known = self._known[values, local] = tuple(found)
        return known

    def shifted(self, local: int, by: int) -> int:
        """Return the local state with its numbers counted from ``by`` further on."""
        if local == IDLE or by == 0:
            return local
        known = self._shifted.get((local, by))
        if known is None:
            at: LocalState = self.model.locals.items[self.locals.items[local]]
            known = self._shifted[local, by] = self._local(
                self.model.local(shifted(self.model, at, by))
            )
        return known

    def local(self, local: int) -> LocalState:
        """Return what a local state is; never ask for ``IDLE``."""
        found: LocalState = self.model.locals.items[self.locals.items[local]]
        return found

    def alternatives(self, local: int) -> tuple[Alternative, ...]:
        """Return what a vCPU may do in a local state; never ask for ``IDLE``."""
        number: int = self.locals.items[local]
        return self.model.alternatives[number]

    def entry(self, local: int, choice: int, value: int) -> tuple[int, int, int, int] | None:
        """Return what a choice does to its object's value, None if it is blocked.

        That is: the value after it, effect, flags and the local state, before any shift.
        """
        entry = self.model.effect(self.locals.items[local], choice, value)
        if entry is None:
            return None
        return entry.value, self._effect(entry.event), entry.flags, self._local(entry.local)

    def _from(self, values: int, local: int) -> list[Step]:
        before: tuple[int, ...] = self.values.items[values]
        found = []
        for choice, option in enumerate(self.alternatives(local)):
            entry = self.entry(local, choice, before[option.target])
            if entry is None:
                continue
            value, effect, flags, following = entry
            after = list(before)
            after[option.target] = value
            now, shift = self._values(after)
            found.append(Step(now, self.shifted(following, shift), shift, effect, flags))
        return found

    def _local(self, number: int) -> int:
        known = self._numbers.get(number)
        if known is None:
            known = self._numbers[number] = self._numbered(number)
        return known

    def _numbered(self, number: int) -> int:
        at: LocalState = self.model.locals.items[number]
        if at.place is not None:
            _check_comparable(list(at.place.results))
            return self.locals.number(counted_from(at.key(), 0), number)
        if at.held:
            names = ", ".join(sorted(lock.name for lock in at.held))
            raise BeyondError(f"a call returns while its vCPU holds {names}")
        return IDLE

    def _values(self, numbers: list[int]) -> tuple[int, int]:
        """Return the number of the objects' values, counted from the lowest sequence."""
        known = self.model.values
        positions = [position_of(known[i].items[numbers[i]]) for i in self._sequences]
        base = min(positions, default=0)
        if base < 0:
            raise BeyondError("a sequence goes back to a number that all had left behind")
        if base:
            for i, position in zip(self._sequences, positions, strict=True):
                number = Number(position - base)
                numbers[i] = known[i].number((Number, number), number)
            self.shifts.add(base)
        count, key = len(self.values), tuple(numbers)
        found = self.values.number(key, key)
        if found == count:
            _check_comparable(list(self.shown(found).values()))
        return found, base

    def _effect(self, event: int) -> int:
        if event < 0:
            return 0
        zap, sync = self.model.events.items[event]
        called, begun, ended, returns = zap or (-1, -1, -1, False)
        effect = Effect(called, begun, ended, returns, sync)
        return self.effects.number(effect, effect)

    def shown(self, values: int) -> dict[str, Any]:
        """Return the objects' values by name."""
        numbers = self.values.items[values]
        return {
            each.name: self.model.values[i].items[numbers[i]]
            for i, each in enumerate(self.model.objects)
        }


def _check_comparable(values: list[Any]) -> None:
    """See that values are compared by what they hold, and not by what they say."""
    for value in values:
        try:
            freeze(value)
        except UnfreezableError as error:
            raise BeyondError(f"it cannot tell what a {error} holds") from error
