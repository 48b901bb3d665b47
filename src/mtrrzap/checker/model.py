"""The tables: local states, object values and effects as small integers, filled on demand.

A state is a tuple of integers: one local state a vCPU, one value a shared object, one ghost value.
Both searches work on these numbers; only this module knows what they mean.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from mtrrzap.checker.automaton import Automaton, Place
from mtrrzap.checker.ghost import Ghost, GhostStep
from mtrrzap.checker.memory_model import Alternative, LocalState, MemoryModel
from mtrrzap.checker.operations import is_buffered, outcomes
from mtrrzap.checker.properties import safety
from mtrrzap.checker.scenario import Scenario
from mtrrzap.errors import UserError
from mtrrzap.protocol import Operation, Outcome, Sequence, SharedObject
from mtrrzap.protocol.atomic import NUMBER_RULE
from mtrrzap.protocol.meaning import is_lock, is_zap, lacks_lock
from mtrrzap.protocol.numbers import far, positions
from mtrrzap.protocol.source import ships
from mtrrzap.protocol.standing import key

LOCALS = 1 << 16
"""Local states of one vCPU, after which a search is stopped."""

LONGEST = 2000
"""Operations of one call for each range, after which a search is stopped."""

STRANGER = -2
"""A vCPU that is not there."""

State = tuple[int, ...]


class Effect(NamedTuple):
    """What an alternative does: next local state, next value, ghost event or -1, flags."""

    local: int
    value: int
    event: int
    flags: int


class Interned:
    """Numbers for hashable things, in the order of their discovery."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, item: Any) -> int:
        """Return the number of ``key``, with which ``item`` is kept."""
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.items)
            self.items.append(item)
        return known

    def __len__(self) -> int:
        return len(self.items)


def more_than_compared(place: Place) -> UserError:
    """Return the error of a protocol that does more with a sequence's number than compare it."""
    return UserError(
        "the protocol does more with a Sequence's number than compare it",
        place=place.where,
        mend=NUMBER_RULE,
    )


class Model:
    """One scenario with one ghost, learned while the search asks.

    At first only the vCPUs' start is known.
    """

    def __init__(self, scenario: Scenario, ghost: Ghost, *, endless: bool = False) -> None:
        """``endless``: a search shifts the numbers of sequences, as in a scenario for ever.

        Raises:
            UserError: if it must not, as the protocol does more with them than compare.
        """
        self.scenario = scenario
        self._endless = endless or scenario.forever
        self.ghost = ghost
        self.vcpus = scenario.vcpus
        self.groups = scenario.groups()
        vm = scenario.protocol.vm()
        self.objects: tuple[SharedObject, ...] = vm.objects()
        self.automaton = Automaton(scenario.protocol, vm)
        self._named = scenario.named
        for each in self.objects if self._endless else ():
            if isinstance(each, Sequence) and type(each).effect is not Sequence.effect:
                raise UserError(f"{each.name} is a Sequence with an effect of its own")
        self._memory = MemoryModel(self.objects, scenario.memory, alloc_fails=scenario.alloc_fails)
        self.locals = Interned()
        self.values = [Interned() for _ in (*self.objects, None)]
        self.events = Interned()
        self.ghosts = Interned()
        self.alternatives: list[tuple[Alternative, ...]] = []
        self._ranges = max(len(each) for requests in scenario.requests for each in requests)
        self.initial = self._initial()

    def _initial(self) -> State:
        locals_ = tuple(self.local(self._start(group, 0)) for group in self.groups)
        values = tuple(
            interned.number(key(known.initial), known.initial)
            for interned, known in zip(self.values, self.objects, strict=False)
        )
        nothing = self.values[-1].number("nothing", None)
        first = self.ghost.initial()
        return (*locals_, *values, nothing, self.ghosts.number(first, first))

    def _requests(self, group: int) -> tuple[Any, ...]:
        return self.scenario.requests[self.groups.index(group)]

    def _start(self, group: int, request: int) -> LocalState:
        requests = self._requests(group)
        if self.scenario.forever:
            request %= len(requests)
        place = self.automaton.start(requests[request]) if request < len(requests) else None
        if place is not None and place.operation is None:
            raise UserError(
                "a call ends without a single operation",
                place=place.where,
                mend="yield at least one operation for every request",
            )
        return LocalState(group, request, place, frozenset(), 0, ())

    def local(self, local: LocalState) -> int:
        """Return the number of a local state.

        Raises:
            UserError: if there are more than a protocol that ends can have.
        """
        number = self.locals.number(local.key(), local)
        if number == len(self.alternatives):
            if local.place is not None and len(local.place.results) > LONGEST * self._ranges:
                raise UserError(
                    f"stopped after {len(local.place.results):,} operations in one call",
                    place=local.place.where,
                    mend=f"end it within {LONGEST:,} for each range: shorten its loop, or check "
                    "that it ends",
                )
            if number == LOCALS:
                raise UserError(
                    f"stopped after {LOCALS:,} local states of one vCPU",
                    mend="shorten its loops, or check that they end",
                )
            if self._endless:
                self._check_numbers(local)
            operation = self.operation(local)
            self.alternatives.append(self._memory.alternatives(local, operation))
        return number

    def _check_numbers(self, local: LocalState) -> None:
        """See that larger numbers lead to the same place, with larger numbers."""
        place = local.place
        if place is not None and positions((place.results, place.key)):
            again = self.replayed(local, far(place.results))
            if again.key != far(place.key):
                raise more_than_compared(place)

    def replayed(self, local: LocalState, results: tuple[Any, ...]) -> Place:
        """Return the place to which other results lead."""
        return self.automaton.replay(self._requests(local.group)[local.request], results)

    def operation(self, local: LocalState) -> Operation | None:
        """Return the next step of a local state, with zaps and queued locks taken apart."""
        operation = None if local.place is None else local.place.operation
        if operation is None:
            return None
        if is_zap(operation):
            verb = "zap_end" if local.phase else "zap_begin"
            return Operation(operation.target, verb, operation.args)
        if is_lock(operation) and self.scenario.forever and local.phase == 0:
            return Operation(operation.target, "join")
        return operation

    def name(self, local: LocalState) -> int:
        """Return the vCPU in a local state, or -1 where it stands for any of its group."""
        return local.group if self._named else -1

    def finished(self, local: int) -> bool:
        """Say whether a vCPU in this local state has made all its requests."""
        known: LocalState = self.locals.items[local]
        return known.place is None

    def effect(self, local: int, choice: int, value: int) -> Effect | None:
        """Compute what an alternative does on a value; None if it is blocked."""
        at: LocalState = self.locals.items[local]
        option = self.alternatives[local][choice]
        if option.flush:
            return self._flush(at, option, value)
        operation = option.operation
        before = self.values[option.target].items[value]
        if self.scenario.memory == "tso" and is_buffered(operation):
            return self._moved(at, option, value, None, buffer=(*at.buffer, operation))
        seen = option.seen[0] if option.seen else before
        where = at.place.where if at.place else ""
        found = outcomes(seen, operation, self.name(at), where)
        if not self._named and not ships(type(operation.target).__module__):
            self._check_symmetry(seen, operation, found, where)
        if option.choice >= len(found):
            return None
        after, result = found[option.choice]
        flags = 0
        if operation.target.problem(seen, operation, after) is not None:
            flags |= safety.CAPACITY_FLAG
        if not option.seen:
            value = self.values[option.target].number(key(after), after)
        return self._moved(at, option, value, result, flags=flags)

    def _check_symmetry(
        self, value: Any, operation: Operation, found: tuple[Outcome, ...], where: str
    ) -> None:
        if found != outcomes(value, operation, STRANGER, where):
            raise UserError(
                f"{operation.target.name} is symmetric, but what {operation} does depends on who",
                place=where,
                mend="leave out symmetric",
            )

    def _flush(self, at: LocalState, option: Alternative, value: int) -> Effect:
        before = self.values[option.target].items[value]
        after = option.operation.target.effect(before, option.operation, self.name(at))[0][0]
        number = self.values[option.target].number(key(after), after)
        return Effect(self.local(at._replace(buffer=at.buffer[1:])), number, -1, 0)

    def _moved(
        self,
        at: LocalState,
        option: Alternative,
        value: int,
        result: Any,
        *,
        flags: int = 0,
        buffer: tuple[Operation, ...] | None = None,
    ) -> Effect:
        operation = option.operation
        flags |= safety.UNLOCKED_FLAG if lacks_lock(at.held, operation) else 0
        if self._endless and positions(result) and not isinstance(operation.target, Sequence):
            raise UserError(
                f"{operation} sends back a Sequence's number",
                place=at.place.where if at.place else "",
            )
        after, returns = self._advance(at, operation, result)
        if buffer is not None:
            after = after._replace(buffer=buffer)
        requests = self._requests(at.group)
        step = GhostStep(
            operation=operation,
            result=result,
            call=requests[at.request] if at.calling else None,
            returns=returns,
        )
        event = self.ghost.event(step)
        number = -1 if event is None else self.events.number(event, event)
        return Effect(self.local(after), value, number, flags)

    def _advance(
        self, at: LocalState, operation: Operation, result: Any
    ) -> tuple[LocalState, bool]:
        if is_zap(operation, "zap_begin") or is_lock(operation, "join"):
            return at._replace(phase=1), False
        held = at.held
        if is_lock(operation):
            held |= {operation.target}
        elif is_lock(operation, "unlock"):
            held -= {operation.target}
        assert at.place is not None
        ranges = self._requests(at.group)[at.request]
        place: Place = self.automaton.after(ranges, at.place, result)
        if place.operation is None:
            following = self._start(at.group, at.request + 1)
            return following._replace(held=held, buffer=at.buffer), True
        return at._replace(place=place, held=held, phase=0), False

    def event_step(self, ghost: int, event: int, vcpu: int) -> tuple[int, int]:
        """Return the ghost value after an event, and the flags it raises."""
        value, flags = self.ghost.after(self.ghosts.items[ghost], self.events.items[event], vcpu)
        return self.ghosts.number(value, value), flags

    def ghost_key(self, ghost: int, vcpu: int) -> int:
        """Return a vCPU's share of a ghost value as a number, for sorting."""
        return self.ghost.key(self.ghosts.items[ghost], vcpu)

    def ghost_swapped(self, ghost: int, vcpu: int) -> int:
        """Return the ghost value with ``vcpu`` and ``vcpu + 1`` exchanged."""
        value = self.ghost.swapped(self.ghosts.items[ghost], vcpu)
        return self.ghosts.number(value, value)
