"""The model's tables as arrays, for the compiled loops."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

import numpy as np

from mtrrzap.checker import packed_general as kernel
from mtrrzap.checker import packed_ghost as ghosts
from mtrrzap.checker.model import Entry, Model, State
from mtrrzap.protocol import Allocator, Cpu, Mmu

_WORD = 63
_LOCALS, _EVENTS, _GHOSTS = 16, 4, 128
"""Room to begin with: of local states for each request, of ghosts twice as much for each vCPU."""


class Tables:
    """The model's tables as arrays, with room for what is not learned yet."""

    def __init__(self, model: Model, *, symmetry: bool) -> None:
        """Start with some room for more than the model knows."""
        self.model = model
        self._symmetry = symmetry
        self.ghosts = ghosts.ghosts_for(model.ghost, model.vcpus)
        requests = max(len(each) for each in model.scenario.requests)
        self.local_room = _room(min(_LOCALS * requests, 1 << kernel.LOCAL_BITS))
        self.event_room, self.ghost_room = _EVENTS, _GHOSTS << model.vcpus
        self._known: dict[tuple[int, int, int], Entry | None] = {}
        self.stride = 0
        self.events = np.empty(0, np.int32)
        self.swaps = self.keys = np.empty(0, np.int64)
        self.layout()

    def layout(self) -> None:
        """Make arrays of the right size and fill in everything that is known."""
        model = self.model
        self._check_numbers()
        least = [1 + (not isinstance(known, Mmu | Allocator | Cpu)) for known in model.objects]
        self.value_room = [
            max(one, _room(len(values)))
            for values, one in zip(model.values, [*least, 1], strict=True)
        ]
        self.local_room = max(self.local_room, _room(len(model.locals)))
        self.event_room = max(self.event_room, _room(len(model.events)))
        most = 1 << kernel.GHOST_BITS
        self.ghost_room = min(most, max(self.ghost_room, _room(self.known_ghosts() + 1)))
        if self.ghosts:
            self.ghosts.make_room(self.ghost_room, model.events.items)
        most = max((len(each) for each in model.alternatives), default=1)
        self.most = max(2, most)
        self.options = np.zeros(self.local_room, np.int64)
        self.option_field = np.zeros((self.local_room, self.most), np.int64)
        self.option_row = np.zeros((self.local_room, self.most), np.int64)
        self.finished = np.zeros(self.local_room, np.bool_)
        self.fields, self.words = fields_for(self.rooms())
        self.choices = np.zeros(self.local_room * self.most, np.uint64)
        self.effects = np.full((2 * self._rows(0) + 1024, 2), kernel.UNKNOWN, np.int64)
        self.effects[0] = 0  # what one that has finished does
        self._next_row = 1
        self._filled = 0
        stride = (self.event_room + 1) * model.vcpus
        same = stride == self.stride
        self.stride = stride
        known = self.events if same else self.events[:0]
        self.events = _grown(known, self.ghost_room * stride, kernel.UNKNOWN)
        self.events.reshape(-1, stride)[:, : model.vcpus] = 0
        if self._symmetry:
            self.swaps = _grown(self.swaps, self.ghost_room * model.vcpus, kernel.NO_NUMBER)
            self.keys = _grown(self.keys, self.ghost_room * model.vcpus, kernel.NO_NUMBER)
        self._add_locals()
        for place, entry in self._known.items():
            self._put(place, entry)

    def _check_numbers(self) -> None:
        room = {
            "local states": (len(self.model.locals), kernel.LOCAL_BITS),
            "values of an object": (max(map(len, self.model.values)), kernel.VALUE_BITS),
            "ghost events": (len(self.model.events) + 1, kernel.EVENT_BITS),
            "ghost values": (self.known_ghosts(), kernel.GHOST_BITS),
        }
        for what, (known, bits) in room.items():
            if known >= 1 << bits:
                raise OverflowError(f"more than {1 << bits:,} {what}")

    def known_ghosts(self) -> int:
        """Return how many ghost values there are."""
        return self.ghosts.known if self.ghosts else len(self.model.ghosts)

    def _rows(self, first: int) -> int:
        """Return how many effects there may be of the local states from ``first`` on."""
        return sum(
            self.value_room[option.target]
            for alternatives in self.model.alternatives[first:]
            for option in alternatives
        )

    def _add_locals(self) -> None:
        model = self.model
        fields = self.fields[model.vcpus :].tolist()
        for local in range(self._filled, len(model.locals)):
            alternatives = model.alternatives[local]
            self.options[local] = len(alternatives)
            self.finished[local] = model.finished(local)
            for choice, option in enumerate(alternatives):
                self.option_field[local, choice] = model.vcpus + option.target
                self.option_row[local, choice] = self._next_row
                _, shift, mask = fields[option.target]
                packed = shift | mask << kernel.MASK_AT | self._next_row << kernel.ROW_AT
                more = choice + 1 < len(alternatives)
                self.choices[local * self.most + choice] = packed | more << kernel.MORE_AT
                self._next_row += self.value_room[option.target]
        self._filled = len(model.locals)

    def learn(self, asked: Any) -> bool:
        """Answer the questions that stopped the kernel; say whether all was laid out anew."""
        if self.ghosts:
            arrays = self.ghosts.arrays()
            left = ghosts.answer(
                asked, len(asked), self.events, self.stride, self.swaps, self.keys, *arrays
            )
            asked = asked[:left]
        entries, full = [], False
        for kind, a, b, c in dict.fromkeys(map(tuple, asked.tolist())):
            if kind == kernel.MISS_ENTRY:
                entries.append((a, b, c))
            elif self.ghosts:  # there was no room for the answer
                full = True
            elif kind == kernel.MISS_EVENT:
                self._answer_event(a, b, c)
            else:
                self._answer_symmetry(kind, a, b)
        for place in entries:
            self._known[place] = self.model.entry(*place)
        if full or not self._fits():
            self.layout()
            return True
        self._add_locals()
        for place in entries:
            self._put(place, self._known[place])
        if self.ghosts:
            self.ghosts.make_room(self.ghost_room, self.model.events.items)
        return False

    def _answer_event(self, ghost: int, event: int, vcpu: int) -> None:
        after, flags = self.model.event_step(ghost, event, vcpu)
        packed = flags << kernel.FLAGS_AT | (after - ghost) << kernel.CHANGE_AT
        self.events[ghost * self.stride + (event + 1) * self.model.vcpus + vcpu] = packed

    def _answer_symmetry(self, kind: int, ghost: int, vcpu: int) -> None:
        model = self.model
        first = ghost * model.vcpus
        if kind == kernel.MISS_SWAP:
            self.swaps[first + vcpu] = model.ghost_swapped(ghost, vcpu)
        else:
            every = range(model.vcpus)
            self.keys[first : first + model.vcpus] = [model.ghost_key(ghost, i) for i in every]

    def compiled(self) -> tuple[Any, Any, Any, Any]:
        """Return the arrays of the compiled ghost; of sizes 0 if it has none."""
        return self.ghosts.arrays() if self.ghosts else ghosts.nothing()

    def ghost_number(self, number: int) -> int:
        """Return the number here of the model's ghost value ``number``."""
        return self.ghosts.number(self.model.ghosts.items[number]) if self.ghosts else number

    def model_state(self, state: State) -> State:
        """Return a state with the model's number of its ghost value."""
        if self.ghosts is None:
            return state
        value = self.ghosts.value(state[-1])
        return (*state[:-1], self.model.ghosts.number(value, value))

    def _put(self, place: tuple[int, int, int], entry: Entry | None) -> None:
        local, choice, value = place
        change = packed = 0
        if entry is not None:
            change = entry.value - value
            packed = kernel.ENABLED | entry.flags << kernel.FLAGS_AT
            packed |= (entry.event + 1) * self.model.vcpus << kernel.EVENT_AT
            packed |= (entry.local - local) << kernel.LOCAL_AT
        self.effects[self.option_row[local, choice] + value] = change, packed

    def _fits(self) -> bool:
        """Say whether there is room for all that the model knows."""
        model = self.model
        return (
            len(model.locals) <= self.local_room
            and len(model.events) <= self.event_room
            and self.known_ghosts() <= self.ghost_room
            and all(
                len(values) <= room
                for values, room in zip(model.values, self.value_room, strict=True)
            )
            and all(len(each) <= self.most for each in model.alternatives[self._filled :])
            and self._next_row + self._rows(self._filled) <= len(self.effects)
        )

    def rooms(self) -> list[int]:
        """Return how many numbers each field of a state must have room for."""
        locals_ = [self.local_room] * self.model.vcpus
        return [*locals_, *self.value_room, self.ghost_room]


def _grown(old: Any, size: int, nothing: int) -> Any:
    new = np.full(size, nothing, old.dtype)
    new[: len(old)] = old
    return new


def _room(known: int) -> int:
    """Return the least power of two that is no less."""
    return 1 << max(0, known - 1).bit_length()


def fields_for(rooms: list[int]) -> tuple[Any, int]:
    """Place fields of the given sizes in one word, or in two: rows of (word, shift, mask)."""
    bits = [max(0, (room - 1).bit_length()) for room in rooms]
    used = [0, 0]
    rows = []
    for width in bits:
        word = 0 if used[0] + width <= _WORD else 1
        rows.append((word, used[word], (1 << width) - 1))
        used[word] += width
    if used[1] > _WORD:
        raise OverflowError("a state does not fit in two words")
    return np.array(rows, np.int64), 2 if used[1] else 1
