"""One call of a protocol, step by step, stopped where it does what no protocol may.

Checker and rehearsal run a protocol this way: a loop without a yield ends, an error names the line
of the protocol's file, and an operation that is made and never yielded is refused.
"""

from __future__ import annotations

import dis
import gc
import re
import sys
from functools import cache
from inspect import GEN_CREATED, getgeneratorstate
from types import CodeType, FrameType, GeneratorType
from typing import TYPE_CHECKING, Any

from mtrrzap.errors import StoppedError, UserError
from mtrrzap.protocol import atomic, operation, yielded
from mtrrzap.protocol.operation import MADE, Made, Operation, Range, SharedObject, Steps
from mtrrzap.protocol.shared import SharedState
from mtrrzap.protocol.source import ships
from mtrrzap.protocol.yielded import UnyieldedError, chain, judged, where

if TYPE_CHECKING:
    from mtrrzap.protocol.registry import Protocol

LINES = 100_000
"""Lines between two operations, after which a protocol counts as endless."""
_CLOSES = 100
"""Yields on the way out of a call that is closed, after which it counts as endless."""


class Watched:
    """One call under way."""

    def __init__(self, protocol: Protocol, vm: SharedState, ranges: tuple[Range, ...]) -> None:
        self.steps = protocol.call(vm, ranges)
        self._objects = vm.objects()
        code = protocol.call.__code__
        self._home = f"{code.co_filename}:{code.co_firstlineno}"
        self._made: list[Made] = []
        self._begun = None if ships(protocol.call.__module__) else Begun(vm)

    def send(
        self, value: Any, *, bounded: bool = True, before: Operation | None = None
    ) -> Operation | None:
        """Return the next operation, or None at the end; ``before`` itself if it is equal to that.

        ``bounded`` counts the lines on the way, which is slow.

        Raises:
            UserError: naming file and line, if the protocol fails, loops without yielding, drops
                an operation, or yields something else.
        """
        token = MADE.set(self._made)
        try:
            watched = bounded or self._begun is not None
            found = self._bounded(value) if watched else self.steps.send(value)
        except StopIteration:
            if self._made:
                raise _unyielded(self._made[0]) from None
            if self._begun is not None:
                self._begun.judge()
            return None
        except EndlessError as error:
            raise UserError(
                f"stopped after {LINES:,} lines without an operation",
                place=error.place,
                mend="yield in every loop",
            ) from None
        except (KeyboardInterrupt, StoppedError):
            raise
        except BaseException as error:
            raise self._blamed(error) from error
        finally:
            MADE.reset(token)
        self._account(found)
        if before is not None and found == before:
            return before
        return judged(found, self.steps, self._objects)

    def _bounded(self, value: Any) -> Any:
        with _LineBudget(self._begun):
            return self.steps.send(value)

    def close(self) -> None:
        """Close the generator, also one that yields on its way out.

        Raises:
            UserError: if it does not end.
        """
        with _LineBudget() as budget:
            if self._closed(_CLOSES):
                return
            place = where(self.steps)
            budget.spend(self.steps)
            self._closed(LINES)
        raise UserError(
            "the protocol goes on after GeneratorExit",
            place=place or self._home,
            mend="do not catch it",
        )

    def _closed(self, times: int) -> bool:
        for _ in range(times):
            try:
                self.steps.close()
            except (KeyboardInterrupt, StoppedError):
                raise
            except BaseException:  # whatever its ``finally`` does is no step of the protocol
                continue
            return True
        return False

    def _account(self, found: Any) -> None:
        """Forget the operation that is yielded; refuse those that nothing refers to any more."""
        if self._made and self._made[-1].operation is found:  # nearly always
            self._made.pop()
        if not self._made:
            return
        self._made[:] = [made for made in self._made if made.operation is not found]
        inside = found.args if isinstance(found, Operation) else ()
        for made in self._made:
            given = isinstance(inside, tuple) and any(each is made.operation for each in inside)
            if given or sys.getrefcount(made.operation) <= _ALONE:
                raise _unyielded(made)

    def _blamed(self, error: BaseException) -> UserError:
        """Return an error of the protocol as one that names its line."""
        if self._made and _OF_OPERATIONS.search(str(error)):  # used like the result of a yield
            return _unyielded(self._made[-1])
        if isinstance(error, UserError):
            if error.place is not None:
                return error
            return UserError(error.problem, place=_raised_at(error), mend=error.mend)
        what = f"{type(error).__name__}: {error}"
        if isinstance(error, SystemExit):
            what = "the file exits the program (SystemExit)"
        return UserError(what, place=_raised_at(error) or self._home)


def _unyielded(made: Made) -> UnyieldedError:
    name = f"{made.operation.target.name}.{made.operation.verb}"
    shown = f"vm.{name}({'...' if made.operation.args else ''})"
    problem = f"{shown} is made and never yielded"
    return UnyieldedError(problem, place=made.place, mend=f"write yield {shown}")


_OF_OPERATIONS = re.compile(r"\bOperation(\(target=|['\"]| object)")
"""In the text of an error: it is about an operation."""


def _alone() -> int:
    made = Made(Operation(SharedObject(), ""), _alone.__code__, 0)
    return sys.getrefcount(made.operation)


_ALONE = _alone()
"""References to an operation that only its record refers to."""


def _raised_at(error: BaseException) -> str:
    """Return the last line on the way to the error that is in a file, and neither ours."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name not in (__file__, atomic.__file__) and not name.startswith("<frozen "):
            place = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


class Begun:
    """The generators of operations that one call has made: each must have run by its end.

    Python tells nobody that a generator is made. So the garbage collector's list of the youngest
    objects is looked at after every line, and emptied; meanwhile it must not collect by itself.
    """

    def __init__(self, vm: SharedState) -> None:
        self._shared = {id(each) for each in (vm, type(vm), *vm.objects())}
        self._found: dict[FrameType, tuple[GeneratorType[Any, Any, Any], str]] = {}
        """By frame. Each is kept, lest Python closes it: its frame runs then, but no line of it."""
        self._collects = False
        self._place = ""

    def start(self) -> None:
        """Begin to look."""
        self._collects = gc.isenabled()
        gc.disable()
        gc.collect(0)

    def stop(self) -> None:
        """Look no more for now."""
        if self._collects:
            gc.enable()

    def look(self, after: FrameType, *, runs: bool) -> None:
        """Note the generators that have come up since the last look; ``after`` is what runs next.

        The tracer is called before a line, so they come from the line that it was told before.
        """
        for each in gc.get_objects(generation=0):
            if type(each) is GeneratorType and self._is_of_operations(each):
                assert each.gi_frame is not None
                self._found[each.gi_frame] = each, self._place
        gc.collect(0)
        if runs:
            self._found.pop(after, None)
        self._place = f"{after.f_code.co_filename}:{after.f_lineno}"

    def _is_of_operations(self, made: GeneratorType[Any, Any, Any]) -> bool:
        """Tell if it has not begun, is no expression, and knows the VM or an object of it."""
        frame = made.gi_frame
        if frame is None or getgeneratorstate(made) != GEN_CREATED:
            return False
        known = frame.f_locals.values()
        return frame.f_code.co_name[0] != "<" and any(id(each) in self._shared for each in known)

    def judge(self) -> None:
        """Raise ``UnyieldedError`` for the first generator that has never run."""
        for made, place in self._found.values():
            name = made.__name__
            mend = f"write yield from {name}(...), or run what you keep"
            raise UnyieldedError(f"{name}(...) is made and never run", place=place, mend=mend)


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


class _LineBudget:
    """Stop a protocol that loops without yielding. Leaves a debugger's own trace alone.

    Line by line it also looks for generators that the protocol has made.
    """

    def __init__(self, begun: Begun | None = None) -> None:
        self._left = LINES
        self._begun = begun
        self.active = sys.gettrace() is None

    def __enter__(self) -> _LineBudget:
        if self.active:
            if self._begun is not None:
                self._begun.start()
            sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        if self.active:
            self.active = False
            sys.settrace(None)
            if self._begun is not None:
                self._begun.stop()

    def spend(self, steps: Steps) -> None:
        """Stop the generator at its next line."""
        for each in chain(steps):
            if self.active and each.gi_frame is not None:
                each.gi_frame.f_trace = self._trace
        self._left = 0

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:  # noqa: ARG002
        if frame.f_code.co_filename in _OURS:
            return None
        if event == "call" and _loops_in_a_line(frame.f_code):
            frame.f_trace_opcodes = True
        if self._begun is not None:
            after = frame.f_back if event == "return" and frame.f_back else frame
            self._begun.look(after, runs=event == "line")
        self._left -= 1
        if self._left < 0 and self.active:
            raise EndlessError(f"{frame.f_code.co_filename}:{frame.f_lineno}", frame, self._trace)
        return self._trace


_OURS = (__file__, operation.__file__, yielded.__file__)
"""Files whose lines do not count."""


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
