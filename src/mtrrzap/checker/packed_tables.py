"""The model's tables as arrays, for the compiled loop."""

# mypy: disable-error-code="no-untyped-call"

from typing import Any

import numpy as np

from mtrrzap.checker import packed_ghost
from mtrrzap.checker import packed_layout as packed
from mtrrzap.checker.model import Effect, Model, State
from mtrrzap.checker.packed_layout import GhostValues, Lookups, StateLayout, U
from mtrrzap.checker.reduction import goes_on_alone, is_unlocked
from mtrrzap.protocol import Allocator, Cpu, Mmu

FIRST_LOCALS, FIRST_EVENTS, FIRST_GHOSTS = 16, 4, 128
"""Room to begin with: of local states for each request, of ghosts twice as much for each vCPU."""


class PackedTables:
    """The model's tables as arrays, with room for what is not learned yet."""

    def __init__(self, model: Model, runs: list[tuple[int, int]], *, reduced: bool = False) -> None:
        self._model = model
        self._reduced = reduced
        self.unlocked = False
        """Whether a reduced search has met a step that needs a lock which its vCPU lacks."""
        self._runs = np.array(runs, np.int64).reshape(-1, 2)
        self._ghost = packed_ghost.packed_ghost(model.ghost, model.vcpus)
        requests = max(len(each) for each in model.scenario.requests)
        self._local_room = _room(min(FIRST_LOCALS * requests, 1 << packed.LOCAL_BITS))
        self._event_room, self._ghost_room = FIRST_EVENTS, FIRST_GHOSTS << model.vcpus
        self._known: dict[tuple[int, int, int], Effect | None] = {}
        self._stride = 0
        self._events = np.empty(0, np.int32)
        self._swaps = self._keys = np.empty(0, np.int64)
        self._lay_out()

    def _lay_out(self) -> None:
        """Make arrays of the right size and fill in everything that is known."""
        model = self._model
        self._check_numbers()
        least = [1 + (not isinstance(known, Mmu | Allocator | Cpu)) for known in model.objects]
        self._value_room = [
            max(one, _room(len(values)))
            for values, one in zip(model.values, [*least, 1], strict=True)
        ]
        self._local_room = max(self._local_room, _room(len(model.locals)))
        self._event_room = max(self._event_room, _room(len(model.events)))
        most_ghosts = 1 << packed.GHOST_BITS
        self._ghost_room = min(most_ghosts, max(self._ghost_room, _room(self._ghosts() + 1)))
        if self._ghost:
            self._ghost.make_room(self._ghost_room, model.events.items)
        self.most = max(2, *map(len, model.alternatives))
        rooms = [self._local_room] * model.vcpus + [*self._value_room, self._ghost_room]
        self.fields, self.words = packed.fields_for(rooms)
        self._finished = np.zeros(self._local_room, np.bool_)
        self._alone = np.zeros(self._local_room * self._reduced, np.bool_)
        self._alternatives = np.zeros(self._local_room * self.most, np.uint64)
        self._first_rows: list[list[int]] = []
        self._effects = np.full((2 * self._rows(0) + 1024, 2), packed.UNKNOWN, np.int64)
        self._effects[0] = 0  # what one that has finished does
        self._next_row = 1
        self._make_ghost_tables()
        self._add_locals()
        for place, effect in self._known.items():
            self._put(place, effect)

    def _make_ghost_tables(self) -> None:
        """Make room for the ghost's steps. Those known stay, if its rows are as long as before."""
        vcpus = self._model.vcpus
        stride = (self._event_room + 1) * vcpus
        known = self._events if stride == self._stride else self._events[:0]
        self._stride = stride
        self._events = _grown(known, self._ghost_room * stride, packed.UNKNOWN)
        self._events.reshape(-1, stride)[:, :vcpus] = 0
        if len(self._runs):
            self._swaps = _grown(self._swaps, self._ghost_room * vcpus, packed.NO_NUMBER)
            self._keys = _grown(self._keys, self._ghost_room * vcpus, packed.NO_NUMBER)

    def _check_numbers(self) -> None:
        model = self._model
        room = {
            "local states": (len(model.locals), packed.LOCAL_BITS),
            "values of an object": (max(map(len, model.values)), packed.VALUE_BITS),
            "ghost events": (len(model.events) + 1, packed.EVENT_BITS),
            "ghost values": (self._ghosts(), packed.GHOST_BITS),
        }
        for what, (known, bits) in room.items():
            if known >= 1 << bits:
                raise OverflowError(f"more than {1 << bits:,} {what}")

    def _ghosts(self) -> int:
        """Return how many ghost values there are."""
        return self._ghost.known if self._ghost else len(self._model.ghosts)

    def _rows(self, first: int) -> int:
        """Return how many effects there may be of the local states from ``first`` on."""
        return sum(
            self._value_room[option.target]
            for alternatives in self._model.alternatives[first:]
            for option in alternatives
        )

    def _add_locals(self) -> None:
        model = self._model
        fields = self.fields[model.vcpus :].tolist()
        for local in range(len(self._first_rows), len(model.locals)):
            alternatives = model.alternatives[local]
            self._finished[local] = model.finished(local)
            if self._reduced:
                self._alone[local] = goes_on_alone(model, local)
                self.unlocked |= is_unlocked(model, local)
            self._first_rows.append([])
            for choice, option in enumerate(alternatives):
                word, shift, mask = fields[option.target]
                place = shift | mask << packed.MASK_AT | word << packed.WORD_AT
                place |= self._next_row << packed.ROW_AT
                place |= (choice + 1 < len(alternatives)) << packed.MORE_AT
                self._alternatives[local * self.most + choice] = place
                self._first_rows[local].append(self._next_row)
                self._next_row += self._value_room[option.target]

    def learn(self, asked: Any) -> bool:
        """Answer the questions that stopped the loop; say whether all was laid out anew."""
        effects, full = [], False
        for kind, a, b, c in dict.fromkeys(map(tuple, asked.tolist())):
            if kind == packed.UNKNOWN_EFFECT:
                effects.append((a, b, c))
            elif self._ghost:  # the loop could have answered this, had there been room
                full = True
            elif kind == packed.UNKNOWN_EVENT:
                self._learn_event(a, b, c)
            else:
                self._learn_symmetry(kind, a, b)
        for place in effects:
            self._known[place] = self._model.effect(*place)
        if full or not self._fits():
            self._lay_out()
            return True
        self._add_locals()
        for place in effects:
            self._put(place, self._known[place])
        if self._ghost:
            self._ghost.make_room(self._ghost_room, self._model.events.items)
        return False

    def _learn_event(self, ghost: int, event: int, vcpu: int) -> None:
        after, flags = self._model.event_step(ghost, event, vcpu)
        what = flags << packed.FLAGS_AT | (after - ghost) << packed.CHANGE_AT
        self._events[ghost * self._stride + (event + 1) * self._model.vcpus + vcpu] = what

    def _learn_symmetry(self, kind: int, ghost: int, vcpu: int) -> None:
        model = self._model
        first = ghost * model.vcpus
        if kind == packed.UNKNOWN_SWAP:
            self._swaps[first + vcpu] = model.ghost_swapped(ghost, vcpu)
        else:
            every = range(model.vcpus)
            self._keys[first : first + model.vcpus] = [model.ghost_key(ghost, i) for i in every]

    def _put(self, place: tuple[int, int, int], effect: Effect | None) -> None:
        local, choice, value = place
        change = what = 0
        if effect is not None:
            change = effect.value - value
            what = packed.ENABLED | effect.flags << packed.FLAGS_AT
            what |= (effect.event + 1) * self._model.vcpus << packed.EVENT_AT
            what |= (effect.local - local) << packed.LOCAL_AT
        self._effects[self._first_rows[local][choice] + value] = change, what

    def _fits(self) -> bool:
        """Say whether there is room for all that the model knows."""
        model, filled = self._model, len(self._first_rows)
        return (
            len(model.locals) <= self._local_room
            and len(model.events) <= self._event_room
            and self._ghosts() <= self._ghost_room
            and all(
                len(values) <= room
                for values, room in zip(model.values, self._value_room, strict=True)
            )
            and all(len(each) <= self.most for each in model.alternatives[filled:])
            and self._next_row + self._rows(filled) <= len(self._effects)
        )

    def layout(self) -> StateLayout:
        """Return where the fields of a state are."""
        vcpus = self._model.vcpus
        ghost_word, ghost_at, _ = self.fields[-1].tolist()
        return StateLayout(
            words=(0,) * self.words,
            vcpus=U(vcpus),
            low_vcpus=U(sum(self.fields[:vcpus, 0] == 0)),
            local_bits=U(int(self.fields[0, 2]).bit_length()),
            ghost_word=U(ghost_word),
            ghost_at=U(ghost_at),
            most=U(self.most),
            stride=U(self._stride),
        )

    def lookups(self) -> Lookups:
        """Return the tables of what a step does."""
        effects = self._effects.view(np.uint64)
        tables = self._alternatives, effects, self._events, self._finished
        return Lookups(*tables, self._runs, self._swaps, self._keys, self._alone)

    def ghost_values(self) -> GhostValues:
        """Return the arrays of the compiled ghost; of sizes 0 if it has none."""
        return self._ghost.arrays if self._ghost else packed_ghost.NOT_COMPILED

    def ghost_number(self, number: int) -> int:
        """Return the number here of the model's ghost value ``number``."""
        return self._ghost.number(self._model.ghosts.items[number]) if self._ghost else number

    def model_state(self, state: State) -> State:
        """Return a state with the model's number of its ghost value."""
        if self._ghost is None:
            return state
        value = self._ghost.value(state[-1])
        return (*state[:-1], self._model.ghosts.number(value, value))


def _grown(old: Any, size: int, nothing: int) -> Any:
    new = np.full(size, nothing, old.dtype)
    new[: len(old)] = old
    return new


def _room(known: int) -> int:
    """Return the least power of two that is no less."""
    return 1 << max(0, known - 1).bit_length()
