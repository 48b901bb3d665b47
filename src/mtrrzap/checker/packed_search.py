"""The compiled search: it runs the loop, answers its questions, makes room, and finds the way back.

Memory of the states and of their hash table is reserved once, as much as the machine has, and takes
nothing until it is touched: so neither has ever to be copied to grow.
"""

# mypy: disable-error-code="call-arg,no-untyped-call"

import contextlib
import mmap
import os
import time
from bisect import bisect_right
from typing import Any

import numpy as np

from mtrrzap.checker import packed_layout as packed
from mtrrzap.checker import packed_loop, packed_set
from mtrrzap.checker.explore import Progress, schedule
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.packed_layout import Notes, SeenStates
from mtrrzap.checker.packed_tables import PackedTables
from mtrrzap.checker.properties import safety
from mtrrzap.checker.result import INTERRUPTED, Choice, Exploration, Found, Limits
from mtrrzap.checker.stepper import Stepper

PAUSE = 1 << 18
"""States that the loop expands between two reports of progress."""
FIRST_SLOTS = 1 << 18
NARROW_SLOTS = 21
"""Bits of the slots that a table may begin with, to be one of narrow slots."""
FULLEST = 0.75
"""Of the hash table, the part that may be taken before it grows."""
_MOST_SLOTS = 1 << 32
_RESERVE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _reserved(needed: int, dtype: Any) -> Any:
    """Return zeros, at least so many: room that takes no memory until it is touched.

    Huge pages, where there are any, save most of the time that random accesses cost.
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


class PackedSearch:
    """The same search as :class:`explore.Search`, compiled.

    One that is ``reduced`` stops where it is in ``doubt``, and has no schedule.

    ``_states`` are kept in the order of their discovery, with the first of each level in
    ``_levels``. Which state one was reached from is looked for when a schedule is wanted.
    """

    def __init__(
        self,
        model: Model,
        *,
        symmetry: bool = True,
        reduced: bool = False,
        wanted: int = 0,
        limits: Limits | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._model = model
        self._reduced = reduced
        self._stepper = Stepper(model, symmetry=symmetry)
        self._limits = limits or Limits()
        self._progress = progress
        self._tables = PackedTables(model, self._stepper.runs, reduced=reduced)
        self._fields, self.words = self._tables.fields, self._tables.words
        self._control = np.zeros(packed.CONTROLS, np.int64)
        self._control[packed.WANTED] = wanted
        self._violations = np.zeros(packed.FLAGS, np.int64)
        self._asked = np.zeros((0, 4), np.int64)
        self._ranks = np.zeros(model.vcpus, np.int64)
        self._table = np.zeros(0, np.bool_)
        self._recent = np.zeros(0, np.uint64)
        self._hashing = np.zeros(3, np.uint64)
        self._learning = 0.0

    def run(self) -> Exploration:
        """Search to the end, to the last wanted violation, to a limit, or until Ctrl-C."""
        self._begin()
        self._load()
        self._control[packed.PAUSE_AT] = PAUSE
        started = time.perf_counter()
        result = Exploration(engine="numba, reduced" if self._reduced else "numba")
        try:
            while result.cut is None:
                status = self._advance()
                if status == packed_loop.DONE:
                    break
                result.cut = self._after(status, started)
        except KeyboardInterrupt:
            result.cut = INTERRUPTED
        except OverflowError as error:
            result.cut = str(error)
        return self._finish(result, time.perf_counter() - started)

    def _begin(self) -> None:
        self._states = _reserved(1, np.uint64)
        self._levels = _reserved(1, np.int64)
        control = self._control
        self._wanted_slots = control[packed.SLOTS] = FIRST_SLOTS
        first = self._stepper.canonical(self._model.initial)
        first = (*first[:-1], self._tables.ghost_number(first[-1]))
        self._fields, self.words = self._tables.fields, self._tables.words
        for (word, shift, _), number in zip(self._fields.tolist(), first, strict=True):
            self._states[word] |= np.uint64(number << shift)
        control[packed.COUNT] = control[packed.LEVEL_END] = 1
        control[packed.PAUSE_AT] = 0
        self._make_table()

    def _load(self) -> None:
        """Load all of the compiled code, or compile it: that is not the search's time."""
        self._advance()  # pauses at once
        self._answer()
        states, fields, words = self._states, self._fields, self.words
        packed.repack(states, 0, words, fields, states, words, fields)
        none = np.zeros(words * (2 + packed_set.MARGIN), self._table.dtype)
        hashing = np.array([2, 0, packed_set.NARROW], np.uint64)
        packed_set.double(SeenStates(none, self._recent, hashing), self._tables.layout().words)

    def _advance(self) -> int:
        questions = packed_loop.BATCH * self._model.vcpus * self._tables.most
        if len(self._asked) < questions:
            self._asked = np.zeros((questions, 4), np.int64)
        return int(packed_loop.search(self._states, self._levels, self._seen(), *self._steps()))

    def _seen(self) -> SeenStates:
        return SeenStates(self._table, self._recent, self._hashing)

    def _steps(self) -> tuple[Any, ...]:
        """Return what it takes to make steps."""
        notes = Notes(self._violations, self._asked, self._control, self._ranks)
        tables = self._tables
        return tables.layout(), tables.lookups(), tables.ghost_values(), notes

    @property
    def doubt(self) -> bool:
        """Whether a reduced search has seen anything violated, or cannot know."""
        return self._reduced and (self._tables.unlocked or bool(self._control[packed.RAISED]))

    def _after(self, status: int, started: float) -> str | None:
        if status == packed_loop.MISS:
            asked = time.perf_counter()
            self._answer()
            self._learning += time.perf_counter() - asked
        elif status == packed_loop.GROW:
            return self._grow()
        elif status == packed_loop.FOUND:
            return "every violation asked for was found"
        elif (cut := self._pause(time.perf_counter() - started)) is not None:
            return cut
        if self.doubt:
            return "something may be violated"
        return self._limits.late(started) or self._limits.big(self._bytes())

    def _answer(self) -> None:
        asked = self._asked[: int(self._control[packed.ASKED])]
        self._control[packed.ASKED] = 0
        if self._tables.learn(asked):
            self._fit_layout()

    def _pause(self, seconds: float) -> str | None:
        count, at = int(self._control[packed.COUNT]), int(self._control[packed.AT])
        self._control[packed.PAUSE_AT] = at + PAUSE
        if self._progress:
            self._progress(count, seconds, count - at)
        return self._enough(count)

    def _enough(self, count: int) -> str | None:
        states = self._limits.states
        return f"limit of {states:,} states" if states is not None and count >= states else None

    def _grow(self) -> str | None:
        count, slots = int(self._control[packed.COUNT]), int(self._control[packed.SLOTS])
        more = self._bytes() + slots * self._table.itemsize * self.words
        enough = self._enough(count) or self._limits.big(more)
        if enough is not None:
            return enough
        if slots >= _MOST_SLOTS:
            return "more states than the hash table may have"
        slots_fit = (2 * slots + packed_set.MARGIN) * self.words <= len(self._table)
        if not slots_fit or 2 * count * self.words > len(self._states):
            return "out of memory"
        self._wanted_slots = self._control[packed.SLOTS] = 2 * slots
        self._double(slots)
        self._set_limit()
        return None

    def _double(self, slots: int) -> None:
        slot_bits, width = self._widths()
        if (slot_bits, width) == (slots.bit_length(), self._hashing[2]):
            went = packed_set.double(self._seen(), self._tables.layout().words)
            self._hashing[1] += np.uint64(1)
            self._recent[:] = 0
            if went:
                return
        self._make_table()

    def _bytes(self) -> int:
        """Return what the states take: themselves, and the hash table."""
        count, slots = int(self._control[packed.COUNT]), int(self._control[packed.SLOTS])
        return (count * 8 + slots * int(self._table.itemsize)) * self.words

    def _set_limit(self) -> None:
        """Let the loop go on to where the table is too full, or there are states enough."""
        most = int(self._control[packed.SLOTS] * FULLEST)
        if self._limits.states is not None:  # overshot by a batch
            room = packed_loop.BATCH * self._model.vcpus * self._tables.most + 1
            most = min(most, self._limits.states + room)
        self._control[packed.GROW_AT] = most

    def _fit_layout(self) -> None:
        """Pack the states anew if their fields have moved."""
        fields, words = self._tables.fields, self._tables.words
        if words == self.words and np.array_equal(fields, self._fields):
            return
        same = words == self.words and np.array_equal(fields[:, :2], self._fields[:, :2])
        bits = self._bits()
        count = int(self._control[packed.COUNT])
        states = self._states
        if words != self.words:
            states = _reserved(count * words, np.uint64)
        if not same:
            old, new = self._states.view(np.int64), states.view(np.int64)
            packed.repack(old, count, self.words, self._fields, new, words, fields)
        self._states, self._fields, self.words = states, fields, words
        if not same or bits != self._bits():
            self._make_table()

    def _bits(self) -> int:
        """Return the bits of a hash: those of a state's first word, and some for more to come."""
        if self.words == 2:
            return packed.WORD_BITS
        _, shift, mask = self._fields[-1].tolist()
        return max(packed_set.LEAST_BITS, int(shift) + int(mask).bit_length())

    def _widths(self) -> tuple[int, int]:
        while int(self._control[packed.COUNT]) > self._wanted_slots * FULLEST:
            self._wanted_slots *= 2  # the slots were more only to be narrow
        slot_bits = self._wanted_slots.bit_length() - 1
        return packed_set.widths(self._bits(), slot_bits, NARROW_SLOTS)

    def _make_table(self) -> None:
        """Put all states into a new table, of the kind that suits them."""
        count = int(self._control[packed.COUNT])
        self._recent = np.zeros(self.words << packed_set.RECENT_BITS, np.uint64)
        slot_bits, width = self._widths()
        words = self._tables.layout().words
        while True:
            self._hashing[:] = self._bits(), slot_bits, width
            kind = np.uint32 if width == packed_set.NARROW else np.uint64
            used = (int(self._control[packed.SLOTS]) + packed_set.MARGIN) * self.words
            self._control[packed.SLOTS] = 1 << slot_bits
            if self._table.dtype == kind:
                self._table[:used] = 0
            else:
                room = ((1 << slot_bits) + packed_set.MARGIN) * self.words
                self._table = _reserved(room, kind)
            if packed_set.rebuild(self._states, count, self._seen(), words):
                break
            slot_bits += 1
        self._set_limit()

    def _unpacked(self, index: int) -> State:
        words = self._states[index * self.words : (index + 1) * self.words].tolist()
        fields = self._fields.tolist()
        return self._tables.model_state(
            tuple(words[word] >> shift & mask for word, shift, mask in fields)
        )

    def _finish(self, result: Exploration, seconds: float) -> Exploration:
        control = self._control
        result.states = int(control[packed.COUNT])
        result.transitions = int(control[packed.TRANSITIONS])
        result.depth = int(control[packed.DEPTH])
        result.frontier = result.states - int(control[packed.AT])
        result.seconds, result.learning = seconds, self._learning
        result.bytes = self._bytes()
        for bit in range(0 if self._reduced else packed.FLAGS):
            if int(control[packed.RAISED]) >> bit & 1:
                flag = 1 << bit
                result.violations[flag] = Found(flag, self._schedule(bit))
        return result

    def _schedule(self, bit: int) -> tuple[Choice, ...]:
        flag = 1 << bit
        at = int(self._violations[bit])
        levels = self._levels[: int(self._control[packed.DEPTH]) + 1].tolist()
        indices = [at]
        for level in range(bisect_right(levels, at) - 1, 0, -1):
            at = self._predecessor(levels[level - 1], levels[level], at)
            indices.append(at)
        path = [self._unpacked(index) for index in reversed(indices)]
        last = None if flag == safety.DEADLOCK_FLAG else Choice(0, 0)
        return schedule(self._stepper, path, last, flag)

    def _predecessor(self, first: int, stop: int, at: int) -> int:
        """Return the state that was the first to lead to state ``at``."""
        while True:
            found = packed_loop.predecessor(self._states, first, stop, at, *self._steps())
            if found >= 0:
                return int(found)
            self._answer()


def explored(model: Model, *, reduced: bool, **how: Any) -> Exploration:
    """Search, ``reduced`` if that is asked for; what it leaves in doubt the full search decides."""
    fewer = PackedSearch(model, reduced=reduced, **how)
    found = fewer.run()
    return PackedSearch(model, **how).run() if fewer.doubt else found
