"""The compiled search: which loop, which room, and the way back to a schedule."""

# mypy: disable-error-code="call-arg,no-untyped-call"

from __future__ import annotations

import contextlib
import mmap
import os
import time
from bisect import bisect_right
from typing import Any

import numpy as np

from mtrrzap.checker import packed_general as kernel
from mtrrzap.checker import packed_one_word as plain
from mtrrzap.checker import visited
from mtrrzap.checker.explore import Progress, schedule
from mtrrzap.checker.model import Model, State
from mtrrzap.checker.properties import deadlock
from mtrrzap.checker.result import INTERRUPTED, Choice, Exploration, Found, Limits
from mtrrzap.checker.stepper import Stepper
from mtrrzap.checker.tables import Tables

_PAUSE = 1 << 18
_FIRST_SLOTS = 1 << 18
_NARROW_SLOTS = 21
"""Bits of the slots that a table may begin with, to be one of narrow slots."""
_MOST_SLOTS = 1 << 32
_RESERVE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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


class FastSearch:
    """The same search as :class:`explore.Search`, compiled.

    ``_states`` are kept in the order of their discovery, with the first of each level in
    ``_levels``; which state one was reached from is looked for when a schedule is wanted. In the
    *plain* search, of states of one word without symmetry, the table is one of :mod:`visited`.
    """

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
        self._tables = Tables(model, symmetry=bool(self._stepper.runs))
        self._fields, self.words = self._tables.fields, self._tables.words
        self._control = np.zeros(kernel.CONTROLS, np.int64)
        self._control[kernel.WANTED] = wanted
        self._violations = np.zeros(kernel.FLAGS, np.int64)
        self._asked = np.zeros((0, 4), np.int64)
        self._runs = np.array(self._stepper.runs, np.int64).reshape(-1, 2)
        self._table = np.zeros(0, np.bool_)
        self._hashing = np.zeros(3, np.uint64)
        self._recent = np.zeros(1 << visited.RECENT_BITS, np.uint64)
        self._learning = 0.0

    @property
    def _plain(self) -> bool:
        return self.words == 1 and not len(self._runs)

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
        self._levels = _reserved(1, np.int64)
        control = self._control
        control[kernel.SLOTS] = _FIRST_SLOTS
        first = self._stepper.canonical(self._model.initial)
        first = (*first[:-1], self._tables.ghost_number(first[-1]))
        self._fields, self.words = self._tables.fields, self._tables.words
        self._states[: self.words] = [kernel.TAKEN, 0][: self.words]
        for (word, shift, _), number in zip(self._fields, first, strict=True):
            self._states[word] |= number << shift
        control[kernel.COUNT] = control[kernel.LEVEL_END] = 1
        control[kernel.PAUSE_AT] = 0
        self._make_table()

    def _load(self) -> None:
        """Load all of the compiled code, or compile it: that is not the search's time."""
        self._advance()  # pauses at once
        self._answer()
        states, fields, words = self._states, self._fields, self.words
        kernel.repack(states, 0, words, fields, states, words, fields)
        if self._plain:
            none = np.zeros(2 + visited.MARGIN, self._table.dtype)
            visited.double(none, np.array([2, 0, visited.NARROW], np.uint64))
        else:
            kernel.double(np.zeros(4, np.int64), 2, 1)

    def _advance(self) -> int:
        tables = self._tables
        questions = kernel.BATCH * self._model.vcpus * tables.most
        if len(self._asked) < questions:
            self._asked = np.zeros((questions, 4), np.int64)
        if self._plain:
            states = self._states.view(np.uint64)
            where = states, self._levels, self._table, self._recent, self._hashing
            return int(plain.search(*where, *self._plainly(), *self._notes()))
        return int(
            kernel.search(
                self._states, self._levels, self._table, self.words, self._fields,
                *self._lookups(), tables.finished, *self._notes(),
            )
        )  # fmt: skip

    def _notes(self) -> tuple[Any, Any, Any]:
        return self._violations, self._asked, self._control

    def _plainly(self) -> tuple[Any, Any, Any]:
        """Return what the plain loop looks up."""
        tables = self._tables
        _, ghost_at, _ = self._fields[-1].tolist()
        local_bits = int(self._fields[0, 2]).bit_length()
        shape = self._model.vcpus, tables.most, local_bits, ghost_at, tables.stride
        effects = tables.effects.view(np.uint64)
        lookups = tables.choices, effects, tables.events, tables.finished
        return tuple(map(np.uint64, shape)), lookups, tables.compiled()

    def _lookups(self) -> tuple[Any, ...]:
        """Return what the other loop looks up."""
        tables = self._tables
        return (
            self._model.vcpus, self._runs, tables.options, tables.option_field, tables.option_row,
            tables.effects, tables.events, tables.stride, tables.swaps, tables.keys,
        )  # fmt: skip

    def _after(self, status: int, started: float) -> str | None:
        if status == kernel.MISS:
            asked = time.perf_counter()
            self._answer()
            self._learning += time.perf_counter() - asked
        elif status == kernel.GROW:
            return self._grow()
        elif status == kernel.FOUND:
            return "every violation asked for was found"
        elif (cut := self._pause(time.perf_counter() - started)) is not None:
            return cut
        return self._limits.late(started) or self._limits.big(self._bytes())

    def _answer(self) -> None:
        asked = self._asked[: int(self._control[kernel.ASKED])]
        self._control[kernel.ASKED] = 0
        if self._tables.learn(asked):
            self._fit_layout()

    def _pause(self, seconds: float) -> str | None:
        count, at = int(self._control[kernel.COUNT]), int(self._control[kernel.AT])
        self._control[kernel.PAUSE_AT] = at + _PAUSE
        if self._progress:
            self._progress(count, seconds, count - at)
        return self._enough(count)

    def _enough(self, count: int) -> str | None:
        states = self._limits.states
        return f"limit of {states:,} states" if states is not None and count >= states else None

    def _grow(self) -> str | None:
        count, slots = int(self._control[kernel.COUNT]), int(self._control[kernel.SLOTS])
        enough = self._enough(count) or self._limits.big(self._bytes() + slots * self._slot_bytes())
        if enough is not None:
            return enough
        if slots >= _MOST_SLOTS:
            return "more states than the hash table may have"
        room = len(self._states) // self.words
        if (2 * slots + visited.MARGIN) * self._slot_words() > len(self._table) or 2 * count > room:
            return "out of memory"
        self._control[kernel.SLOTS] = 2 * slots
        self._double(slots)
        self._set_limit()
        return None

    def _double(self, slots: int) -> None:
        if not self._plain:
            if not kernel.double(self._table, slots, self.words):
                self._make_table()
            return
        slot_bits, width = self._widths()
        if (slot_bits, width) == (slots.bit_length(), self._hashing[2]):
            went = visited.double(self._table, self._hashing)
            self._hashing[1] += np.uint64(1)
            self._recent[:] = 0
            if went:
                return
        self._make_table()

    def _slot_words(self) -> int:
        """Return how many of the table's numbers make a slot."""
        return 1 if self._plain else self.words

    def _slot_bytes(self) -> int:
        return int(self._table.itemsize) * self._slot_words()

    def _bytes(self) -> int:
        """Return what the states take: themselves, and the hash table."""
        count, slots = int(self._control[kernel.COUNT]), int(self._control[kernel.SLOTS])
        return count * 8 * self.words + slots * self._slot_bytes()

    def _set_limit(self) -> None:
        """Let the loop go on to where the table is too full, or there are states enough."""
        slots = int(self._control[kernel.SLOTS])
        most = slots * 3 // 4 if self._plain else slots // 2
        if self._limits.states is not None:  # overshot by a batch
            room = kernel.BATCH * self._model.vcpus * self._tables.most + 1
            most = min(most, self._limits.states + room)
        self._control[kernel.GROW_AT] = most

    def _fit_layout(self) -> None:
        """Pack the states anew if their fields have moved."""
        fields, words = self._tables.fields, self._tables.words
        if words == self.words and np.array_equal(fields, self._fields):
            return
        same = words == self.words and np.array_equal(fields[:, :2], self._fields[:, :2])
        bits = self._bits()
        count = int(self._control[kernel.COUNT])
        states = self._states
        if words != self.words:
            states = _reserved(count * words, np.int64)
        if not same:
            kernel.repack(self._states, count, self.words, self._fields, states, words, fields)
        self._states, self._fields, self.words = states, fields, words
        if not same or not self._plain or bits != self._bits():
            self._make_table()

    def _bits(self) -> int:
        """Return the bits of a hash: those of a state, and some for more to come."""
        _, shift, mask = self._fields[-1].tolist()
        return max(visited.LEAST_BITS, int(shift) + int(mask).bit_length())

    def _widths(self) -> tuple[int, int]:
        slot_bits = int(self._control[kernel.SLOTS]).bit_length() - 1
        return visited.widths(self._bits(), slot_bits, _NARROW_SLOTS)

    def _make_table(self) -> None:
        """Put all states into a new table, of the kind that suits them."""
        count = int(self._control[kernel.COUNT])
        if not self._plain:
            slots = int(self._control[kernel.SLOTS])
            self._table = _reserved(slots * self.words, np.int64)
            kernel.rebuild(self._states, count, self._table, slots, self.words)
            self._set_limit()
            return
        self._recent[:] = 0
        slot_bits, width = self._widths()
        while True:
            self._hashing[:] = self._bits(), slot_bits, width
            kind = np.uint32 if width == visited.NARROW else np.uint64
            used = int(self._control[kernel.SLOTS]) + visited.MARGIN
            self._control[kernel.SLOTS] = 1 << slot_bits
            if self._table.dtype == kind:
                self._table[:used] = 0
            else:
                self._table = _reserved((1 << slot_bits) + visited.MARGIN, kind)
            states = self._states.view(np.uint64)
            if visited.rebuild(states, count, self._table, self._hashing):
                break
            slot_bits += 1
        self._set_limit()

    def _unpacked(self, index: int) -> State:
        words = self._states[index * self.words : (index + 1) * self.words]
        return self._tables.model_state(
            tuple(int(words[word]) >> int(shift) & int(mask) for word, shift, mask in self._fields)
        )

    def _finish(self, result: Exploration, seconds: float) -> Exploration:
        control = self._control
        result.states = int(control[kernel.COUNT])
        result.transitions = int(control[kernel.TRANSITIONS])
        result.depth = int(control[kernel.DEPTH])
        result.frontier = result.states - int(control[kernel.AT])
        result.seconds, result.learning = seconds, self._learning
        result.bytes = self._bytes()
        for bit in range(kernel.FLAGS):
            if int(control[kernel.RAISED]) >> bit & 1:
                flag = 1 << bit
                result.violations[flag] = Found(flag, self._schedule(bit))
        return result

    def _schedule(self, bit: int) -> tuple[Choice, ...]:
        flag = 1 << bit
        at = int(self._violations[bit])
        levels = self._levels[: int(self._control[kernel.DEPTH]) + 1].tolist()
        indices = [at]
        for level in range(bisect_right(levels, at) - 1, 0, -1):
            at = self._predecessor(levels[level - 1], levels[level], at)
            indices.append(at)
        path = [self._unpacked(index) for index in reversed(indices)]
        last = None if flag == deadlock.FLAG else Choice(0, 0)
        return schedule(self._stepper, path, last, flag)

    def _predecessor(self, first: int, stop: int, at: int) -> int:
        """Return the state that was the first to lead to state ``at``."""
        while True:
            if self._plain:
                states = self._states.view(np.uint64)
                found = plain.predecessor(states, first, stop, at, *self._plainly(), *self._notes())
            else:
                found = kernel.predecessor(
                    self._states, first, stop, at, self.words, self._fields, *self._lookups(),
                    *self._notes(),
                )  # fmt: skip
            if found >= 0:
                return int(found)
            self._answer()
