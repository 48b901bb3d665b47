"""The compiled search's other half: tables, room, layout, and the way back to a schedule."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import contextlib
import mmap
import os
import time
from typing import Any

import numpy as np

from mtrrzap.engine.check import kernel, plain
from mtrrzap.engine.check.explore import Progress, schedule
from mtrrzap.engine.check.model import Entry, Model, State
from mtrrzap.engine.check.properties import deadlock
from mtrrzap.engine.check.result import INTERRUPTED, Choice, Exploration, Found, Limits
from mtrrzap.engine.check.stepper import Stepper

_WORD = 63
_PAUSE = 1 << 18
_FIRST_SLOTS = 1 << 16
_RESERVE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Tables:
    """The model's tables as arrays, with room for what is not learned yet."""

    def __init__(self, model: Model) -> None:
        """Start with room for what the model knows, twice over."""
        self.model = model
        self._known: dict[tuple[int, int, int], Entry | None] = {}
        self.stride = 0
        self.events = self.swaps = self.keys = np.empty(0, np.int64)
        self.layout()

    def layout(self) -> None:
        """Make arrays of the right size and fill in everything that is known."""
        model = self.model
        self.value_room = [_room(len(values)) for values in model.values]
        self.local_room = _room(len(model.locals))
        self.event_room = _room(len(model.events))
        self.ghost_room = _room(len(model.ghosts))
        self._check_numbers()
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
            "ghost values": (len(self.model.ghosts), kernel.GHOST_BITS),
        }
        for what, (known, bits) in room.items():
            if known >= 1 << bits:
                raise OverflowError(f"more than {1 << bits:,} {what}")

    def _rows(self, first: int) -> int:
        """Return how many effects there may be of the local states from ``first`` on."""
        return sum(
            self.value_room[option.target]
            for alternatives in self.model.alternatives[first:]
            for option in alternatives
        )

    def _add_locals(self) -> None:
        model = self.model
        for local in range(self._filled, len(model.locals)):
            alternatives = model.alternatives[local]
            self.options[local] = len(alternatives)
            self.finished[local] = model.finished(local)
            for choice, option in enumerate(alternatives):
                self.option_field[local, choice] = model.vcpus + option.target
                self.option_row[local, choice] = self._next_row
                self._add_choice(local, choice)
                self._next_row += self.value_room[option.target]
        self._filled = len(model.locals)

    def _add_choice(self, local: int, choice: int) -> None:
        _, shift, mask = self.fields[self.option_field[local, choice]].tolist()
        packed = shift | mask << plain.MASK_AT | self._next_row << plain.ROW_AT
        more = choice + 1 < self.options[local]
        self.choices[local * self.most + choice] = packed | more << plain.MORE_AT

    def learn(self, asked: Any) -> bool:
        """Answer the questions that stopped the kernel; say whether all was laid out anew."""
        anew = False
        events = []
        for kind, a, b, c in dict.fromkeys(map(tuple, asked.tolist())):
            if kind == kernel.MISS_EVENT:
                events.append((a, b, c))
            elif kind == kernel.MISS_ENTRY:
                anew = self._answer_entry((a, b, c)) or anew
            else:
                self._answer_symmetry(kind, a, b)
        self._answer_events(events)
        if len(self.model.ghosts) > self.ghost_room:
            self.layout()
            return True
        return anew

    def _answer_events(self, events: list[tuple[int, int, int]]) -> None:
        """Write all at once: most of what a small search learns is of this kind."""
        step, stride, vcpus = self.model.event_step, self.stride, self.model.vcpus
        places, packed = [], []
        for ghost, event, vcpu in events:
            after, flags = step(ghost, event, vcpu)
            places.append(ghost * stride + (event + 1) * vcpus + vcpu)
            packed.append(flags << kernel.FLAGS_AT | (after - ghost) << kernel.CHANGE_AT)
        self.events[places] = packed

    def _answer_symmetry(self, kind: int, ghost: int, vcpu: int) -> None:
        model = self.model
        first = ghost * model.vcpus
        if kind == kernel.MISS_SWAP:
            self.swaps[first + vcpu] = model.ghost_swapped(ghost, vcpu)
        else:
            every = range(model.vcpus)
            self.keys[first : first + model.vcpus] = [model.ghost_key(ghost, i) for i in every]

    def _answer_entry(self, place: tuple[int, int, int]) -> bool:
        if place in self._known:
            return False
        entry = self._known[place] = self.model.entry(*place)
        if self._fit():
            return True
        self._put(place, entry)
        return False

    def _put(self, place: tuple[int, int, int], entry: Entry | None) -> None:
        local, choice, value = place
        change = packed = 0
        if entry is not None:
            change = entry.value - value
            packed = kernel.ENABLED | entry.flags << kernel.FLAGS_AT
            packed |= (entry.event + 1) * self.model.vcpus << kernel.EVENT_AT
            packed |= (entry.local - local) << kernel.LOCAL_AT
        self.effects[self.option_row[local, choice] + value] = change, packed

    def _fit(self) -> bool:
        """Make room for what was just learned; say whether everything was laid out anew."""
        model = self.model
        fits = (
            len(model.locals) <= self.local_room
            and len(model.events) <= self.event_room
            and len(model.ghosts) <= self.ghost_room
            and all(
                len(values) <= room
                for values, room in zip(model.values, self.value_room, strict=True)
            )
            and all(len(each) <= self.most for each in model.alternatives[self._filled :])
            and self._next_row + self._rows(self._filled) <= len(self.effects)
        )
        if not fits:
            self.layout()
            return True
        self._add_locals()
        return False

    def rooms(self) -> list[int]:
        """Return how many numbers each field of a state must have room for."""
        locals_ = [self.local_room] * self.model.vcpus
        return [*locals_, *self.value_room, self.ghost_room]


def _grown(old: Any, size: int, nothing: int) -> Any:
    new = np.full(size, nothing, np.int64)
    new[: len(old)] = old
    return new


def _reserved(needed: int, dtype: Any) -> Any:
    """Return zeros, at least so many: room that takes no memory until it is touched.

    It never has to be copied to grow. Huge pages, where there are any, save most of the time that
    random accesses cost.
    """
    size = max(needed * np.dtype(dtype).itemsize, _RESERVE)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    while True:
        try:
            room = mmap.mmap(-1, size, flags=flags)
            break
        except (OSError, ValueError, OverflowError):
            size //= 2
            if size < needed * np.dtype(dtype).itemsize:
                raise MemoryError from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, dtype)


def _room(known: int) -> int:
    return 1 << max(1, (known + known // 2).bit_length())


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


class FastSearch:
    """The same search as :class:`explore.Search`, compiled."""

    def __init__(
        self,
        model: Model,
        *,
        symmetry: bool = True,
        wanted: int = 0,
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Take the same arguments as the search in plain Python."""
        self._model = model
        self._stepper = Stepper(model, symmetry=symmetry)
        self._limits = limits or Limits()
        self._progress = progress
        self._tables = Tables(model)
        self._fields, self.words = self._tables.fields, self._tables.words
        self._control = np.zeros(kernel.CONTROLS, np.int64)
        self._control[kernel.WANTED] = wanted
        self._violations = np.zeros(kernel.FLAGS, np.int64)
        self._asked = np.zeros((0, 4), np.int64)
        self._runs = np.array(self._stepper.runs, np.int64).reshape(-1, 2)

    def run(self) -> Exploration:
        """Search to the end, to the last wanted violation, to a limit, or until Ctrl-C."""
        self._begin()
        self._load()
        self._control[kernel.PAUSE_AT] = _PAUSE
        started = time.perf_counter()
        result = Exploration(engine="numba")
        try:
            while result.cut is None:
                status = self._advance()
                if status == kernel.DONE:
                    break
                result.cut = self._after(status, started)
        except KeyboardInterrupt:
            result.cut = INTERRUPTED
        except OverflowError as error:
            result.cut = str(error)
        return self._finish(result, time.perf_counter() - started)

    def _begin(self) -> None:
        self._states = _reserved(1, np.int64)
        self._parents = _reserved(1, np.uint32)[: self._most()]
        self._table = _reserved(_FIRST_SLOTS * self.words, np.int64)
        self._control[kernel.SLOTS] = _FIRST_SLOTS
        first = self._stepper.canonical(self._model.initial)
        self._fit_layout()
        for field, number in enumerate(first):
            word, shift, _ = self._fields[field]
            if field == 0:
                self._states[: self.words] = [kernel.TAKEN, 0][: self.words]
            self._states[word] |= number << shift
        self._control[kernel.COUNT] = 1
        self._control[kernel.LEVEL_END] = 1
        self._control[kernel.PAUSE_AT] = 0
        kernel.rebuild(self._states, 1, self._table, _FIRST_SLOTS, self.words)

    def _load(self) -> None:
        """Load all of the compiled code, or compile it: that is not the search's time."""
        self._advance()  # pauses at once
        kernel.double(np.zeros(4, np.int64), 2, 1)
        states, fields, words = self._states, self._fields, self.words
        kernel.repack(states, 0, words, fields, states, words, fields)

    def _most(self) -> int:
        """Return the room that the limit of states leaves: a batch more, all that it overshoots."""
        states = self._limits.states
        if states is None:
            return 1 << 32
        return states + kernel.BATCH * self._model.vcpus * self._tables.option_field.shape[1]

    def _advance(self) -> int:
        tables = self._tables
        questions = kernel.BATCH * self._model.vcpus * tables.most
        if len(self._asked) < questions:
            self._asked = np.zeros((questions, 4), np.int64)
        if self.words == 1 and not len(self._runs):
            return self._advance_plainly()
        return int(
            kernel.search(
                self._states, self._parents, self._table, self.words, self._fields,
                self._model.vcpus, self._runs, tables.options, tables.option_field,
                tables.option_row, tables.effects, tables.events, tables.stride, tables.swaps,
                tables.keys, tables.finished, self._violations, self._asked, self._control,
            )
        )  # fmt: skip

    def _advance_plainly(self) -> int:
        tables = self._tables
        _, ghost_at, _ = self._fields[-1].tolist()
        local_bits = int(self._fields[0, 2]).bit_length()
        shape = self._model.vcpus, tables.most, local_bits, ghost_at, tables.stride
        return int(
            plain.search(
                self._states.view(np.uint64), self._parents, self._table.view(np.uint64),
                tuple(map(np.uint64, shape)), tables.choices, tables.effects.view(np.uint64),
                tables.events.view(np.uint64), tables.finished, self._violations, self._asked,
                self._control,
            )
        )  # fmt: skip

    def _after(self, status: int, started: float) -> str | None:
        if status == kernel.MISS:
            asked = self._asked[: int(self._control[kernel.ASKED])]
            self._control[kernel.ASKED] = 0
            if self._tables.learn(asked):
                self._fit_layout()
        elif status == kernel.GROW:
            return self._grow()
        elif status == kernel.FOUND:
            return "every violation asked for was found"
        else:
            return self._pause(time.perf_counter() - started) or self._limits.late(started)
        return self._limits.late(started)

    def _pause(self, seconds: float) -> str | None:
        count, at = int(self._control[kernel.COUNT]), int(self._control[kernel.AT])
        self._control[kernel.PAUSE_AT] = at + _PAUSE
        if self._progress:
            self._progress(count, seconds, count - at)
        limits = self._limits
        if limits.states is not None and count >= limits.states:
            return f"limit of {limits.states:,} states"
        return None

    def _grow(self) -> str | None:
        count = int(self._control[kernel.COUNT])
        limits = self._limits
        if limits.states is not None and count >= limits.states:
            return f"limit of {limits.states:,} states"
        slots = int(self._control[kernel.SLOTS])
        if (big := limits.big(self._bytes() + 8 * self.words * slots)) is not None:
            return big
        if slots >= 1 << 32:
            return "more states than the hash table may have"
        if 2 * slots * self.words > len(self._table) or count * 2 > len(self._states) // self.words:
            return "out of memory"
        self._control[kernel.SLOTS] = 2 * slots
        if not kernel.double(self._table, slots, self.words):
            self._rebuild()
        return None

    def _bytes(self) -> int:
        """Return what the states take: themselves, their parents' numbers, the hash table."""
        count, slots = int(self._control[kernel.COUNT]), int(self._control[kernel.SLOTS])
        return count * (8 * self.words + 4) + slots * 8 * self.words

    def _fit_layout(self) -> None:
        fields, words = self._tables.fields, self._tables.words
        if words == self.words and np.array_equal(fields, self._fields):
            return
        count = int(self._control[kernel.COUNT])
        states, slots = self._states, int(self._control[kernel.SLOTS])
        if words != self.words:
            states = _reserved(count * words, np.int64)
            self._table = _reserved(slots * words, np.int64)
        kernel.repack(self._states, count, self.words, self._fields, states, words, fields)
        self._states, self._fields, self.words = states, fields, words
        self._rebuild()

    def _rebuild(self) -> None:
        count, slots = int(self._control[kernel.COUNT]), int(self._control[kernel.SLOTS])
        self._table[: slots * self.words] = kernel.EMPTY
        kernel.rebuild(self._states, count, self._table, slots, self.words)

    def _unpacked(self, index: int) -> State:
        words = self._states[index * self.words : (index + 1) * self.words]
        return tuple(
            int(words[word]) >> int(shift) & int(mask) for word, shift, mask in self._fields
        )

    def _finish(self, result: Exploration, seconds: float) -> Exploration:
        control = self._control
        result.states = int(control[kernel.COUNT])
        result.transitions = int(control[kernel.TRANSITIONS])
        result.depth = int(control[kernel.DEPTH])
        result.frontier = result.states - int(control[kernel.AT])
        result.seconds = seconds
        result.bytes = self._bytes()
        for bit in range(kernel.FLAGS):
            if int(control[kernel.RAISED]) >> bit & 1:
                flag = 1 << bit
                result.violations[flag] = Found(flag, self._schedule(bit))
        return result

    def _schedule(self, bit: int) -> tuple[Choice, ...]:
        flag = 1 << bit
        at = int(self._violations[bit])
        indices = [at]
        while at:
            at = int(self._parents[at])
            indices.append(at)
        path = [self._unpacked(index) for index in reversed(indices)]
        last = None if flag == deadlock.FLAG else Choice(0, 0)
        return schedule(self._stepper, path, last, flag)
