"""Learn what one vCPU does: run its generator, and recognise the places where it stands.

A generator cannot be copied, but it is deterministic: to go on from a place twice, run a new one
and send it the same results. Two places are the same if all frames stand at the same instruction
with the same locals and the same temporaries; where something in a frame cannot be compared, the
results sent so far stand in for it, which is always right and only merges less.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from types import CodeType, FrameType
from typing import Any

from mtrrzap.checker.freeze import UnfreezableError, freeze, standing
from mtrrzap.checker.hidden import Hidden
from mtrrzap.errors import UserError
from mtrrzap.protocol import (
    Number,
    Operation,
    Protocol,
    Range,
    Sequence,
    SharedObject,
    SharedState,
    Steps,
    atomic,
)
from mtrrzap.protocol.yielded import judged, where

LINES = 100_000
"""Lines between two operations, after which a protocol counts as endless."""

LONG = 64
"""Operations into a call after which generators are kept, to go on with: running each place's
operations from the start would take time quadratic in the length of a call."""

KEPT = 16
"""Generators that are kept, at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a vCPU stands within one call: the operation it will do next, or None at the end.

    ``key`` is equal for places that behave alike. ``results`` and ``operations`` lead there.
    """

    key: Hashable
    operation: Operation | None
    results: tuple[Any, ...]
    operations: tuple[Operation, ...]
    where: str


class Automaton:
    """All the places of one protocol function, learned on demand."""

    def __init__(self, protocol: Protocol, vm: SharedState) -> None:
        self._protocol = protocol
        self._vm = vm
        self.objects: tuple[SharedObject, ...] = vm.objects()
        self._hidden = Hidden(protocol)
        self._started: dict[tuple[Range, ...], Place] = {}
        self._after: dict[Hashable, tuple[Place, Place]] = {}
        self._kept: dict[int, tuple[Place, Steps]] = {}

    def start(self, ranges: tuple[Range, ...]) -> Place:
        """Return the place before the first operation of a call for ``ranges``."""
        if ranges not in self._started:
            self._started[ranges] = self.replay(ranges, ())
        return self._started[ranges]

    def after(self, ranges: tuple[Range, ...], place: Place, result: Any) -> Place:
        """Return the place after ``place``'s operation has sent back ``result``.

        Raises:
            UserError: if the protocol fails, yields something else than an operation, does not
                end, or does not repeat what it did before with the same results.
        """
        try:
            step = (id(place), freeze(result))
        except UnfreezableError:
            return self._go_on(ranges, place, result)
        if step not in self._after:
            after = self._go_on(ranges, place, result)
            self._after[step] = place, after  # the place too: an id is not used again
        return self._after[step][1]

    def _go_on(self, ranges: tuple[Range, ...], place: Place, result: Any) -> Place:
        results = (*place.results, result)
        kept = self._kept.pop(id(place), None)
        if kept is None:
            return self.replay(ranges, results, place.operations)
        return self._run(kept[1], results, place.operations, sent=len(results) - 1)

    def replay(
        self,
        ranges: tuple[Range, ...],
        results: tuple[Any, ...],
        expected: tuple[Operation, ...] | None = None,
    ) -> Place:
        """Run a new generator and send it ``results``; check the ``expected`` operations."""
        return self._run(self._protocol.call(self._vm, ranges), results, expected, sent=None)

    def _run(
        self,
        steps: Steps,
        results: tuple[Any, ...],
        expected: tuple[Operation, ...] | None,
        *,
        sent: int | None,
    ) -> Place:
        place = None
        try:
            place = self._place(steps, results, expected, sent)
        finally:
            if place is None or place.operation is None or len(results) < LONG:
                self._close(steps)
        if place.operation is not None and len(results) >= LONG:
            self._kept[id(place)] = place, steps
            if len(self._kept) > KEPT:
                self._close(self._kept.pop(next(iter(self._kept)))[1])
        return place

    def _close(self, steps: Steps) -> None:
        with _LineBudget(self._home(), active=True):
            _discard(steps)

    def _place(
        self,
        steps: Steps,
        results: tuple[Any, ...],
        expected: tuple[Operation, ...] | None,
        sent: int | None,
    ) -> Place:
        """Send what was not sent yet; ``sent`` is None for a generator that has not begun."""
        first = 0 if sent is None else sent + 1
        operations = list(expected[:first]) if expected is not None else []
        for i in range(first, len(results) + 1):
            last = i == len(results)
            before = expected[i] if expected is not None and not last else None
            send = results[i - 1] if i else None
            operation = self._send(steps, send, watched=last, before=before)
            if last:
                self._check_hidden(steps)
            if before is not None and operation is not before:
                raise UserError(
                    f"{self._protocol.name} yielded {before} here before, and now yields "
                    f"{operation} after the same results",
                    place=where(steps) or self._home(),
                    mend="keep state in shared objects only",
                )
            if operation is None:
                return Place(("end",), None, results, tuple(operations), self._home())
            operations.append(operation)
        return Place(
            key=(_key(steps, results), operations[-1]),
            operation=operations[-1],
            results=results,
            operations=tuple(operations),
            where=where(steps),
        )

    def _check_hidden(self, steps: Steps) -> None:
        name = self._hidden.changed()
        if name is not None:
            raise UserError(
                f"the protocol changes {name}, which all vCPUs share, without an operation",
                place=where(steps) or self._home(),
                mend="keep state in shared objects only",
            )

    def _home(self) -> str:
        code = self._protocol.call.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    def _send(
        self, steps: Steps, value: Any, *, watched: bool, before: Operation | None
    ) -> Operation | None:
        """Return the next operation: ``before`` itself, already judged, if it is equal to that."""
        try:
            if watched:
                with _LineBudget(self._home(), active=True):
                    operation = steps.send(value)
            else:
                operation = steps.send(value)
        except StopIteration:
            return None
        except UserError as error:
            if error.place is None:
                raise UserError(error.problem, place=_raised_at(error), mend=error.mend) from error
            raise
        except EndlessError as error:
            raise UserError(
                f"stopped after {LINES:,} lines without an operation",
                place=error.place,
                mend="yield in every loop",
            ) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            what = f"{type(error).__name__}: {error}"
            if isinstance(error, SystemExit):
                what = "the file exits the program (SystemExit)"
            raise UserError(what, place=_raised_at(error) or self._home()) from error
        same = before is not None and operation == before
        return before if same else self._judged(operation, steps)

    def _judged(self, operation: Any, steps: Steps) -> Operation:
        """Return what a protocol has yielded, if it is an operation that makes sense."""
        judged(operation, steps, self.objects)
        if not isinstance(operation.target, Sequence) and _holds_number(operation.args):
            raise UserError(
                f"{operation} takes a Sequence's number, which only a Sequence understands",
                place=where(steps),
                mend="pass it to a Sequence only",
            )
        assert isinstance(operation, Operation)
        return operation


def _holds_number(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return any(_holds_number(each) for each in value)
    return isinstance(value, Number)


def _key(steps: Steps, results: tuple[Any, ...]) -> Hashable:
    try:
        return standing(steps)
    except UnfreezableError:
        return ("results", tuple((type(result), result) for result in results))


def _raised_at(error: BaseException) -> str:
    """Return the last line on the way to the error that is in a file, and neither ours."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name not in (__file__, atomic.__file__) and not name.startswith("<frozen "):
            place = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


class EndlessError(BaseException):
    """A protocol loops without yielding. No Exception, lest the protocol catches it.

    Python stops tracing when a tracer raises. Should a bare ``except`` drop this error even so,
    its end starts the tracing again: sooner or later it is raised outside of any ``try``.
    """

    def __init__(self, place: str, frame: FrameType, trace: Any) -> None:
        super().__init__(place)
        self.place = place
        self._frame: FrameType | None = frame
        self._trace = trace

    def __del__(self) -> None:
        """Trace on, unless the budget is no longer in force."""
        if self._trace.__self__.active:
            frame, self._frame = self._frame, None
            while frame is not None and frame.f_code.co_filename != __file__:
                frame.f_trace = self._trace
                frame = frame.f_back
            sys.settrace(self._trace)


def _discard(steps: Steps) -> None:
    """Close a generator, also one that yields on its way out: Python would say so on stderr."""
    for _ in range(LINES):
        try:
            steps.close()
        except KeyboardInterrupt:
            raise
        except BaseException:  # whatever its ``finally`` does is no step of the protocol
            continue
        return


class _LineBudget:
    """Stop a protocol that loops without yielding. Leaves a debugger's own trace alone."""

    def __init__(self, home: str, *, active: bool) -> None:
        self._left = LINES
        self._home = home
        self.active = active and sys.gettrace() is None

    def __enter__(self) -> None:
        if self.active:
            sys.settrace(self._trace)

    def __exit__(self, *error: object) -> None:
        if self.active:
            self.active = False
            sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002
        if event == "call" and _loops_in_a_line(frame.f_code):
            frame.f_trace_opcodes = True
        self._left -= 1
        if self._left < 0 and self.active:
            raise EndlessError(f"{frame.f_code.co_filename}:{frame.f_lineno}", frame, self._trace)
        return self._trace


@cache
def _loops_in_a_line(code: CodeType) -> bool:
    """Tell if a function jumps back within a line: then lines do not count its rounds.

    Generator expressions and comprehensions do, and are left out: they would be slowed down.
    """
    if code.co_name.startswith("<"):
        return False
    steps = list(dis.get_instructions(code))
    line_of = {step.offset: step.positions and step.positions.lineno for step in steps}
    return any(
        "JUMP_BACKWARD" in step.opname
        and "NO_INTERRUPT" not in step.opname
        and line_of[step.offset] == line_of.get(step.argval)
        for step in steps
    )
