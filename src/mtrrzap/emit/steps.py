"""The C makes the steps that were checked: every transition, and every log of free threads.

What an operation of the model looks like in C is written down here once more, apart from the
translation: ``line`` says which line the test build (data/emit/steps.c) must print for it. The
order and the arguments in that line come from the C primitive that was really called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtrrzap.checker.ghost import NoGhost
from mtrrzap.checker.graph import Graph, build
from mtrrzap.checker.memory_model import LocalState
from mtrrzap.checker.model import Model
from mtrrzap.checker.result import Choice
from mtrrzap.checker.scenario import scenario
from mtrrzap.checker.stepper import Stepper
from mtrrzap.emit.native import ran
from mtrrzap.errors import UserError
from mtrrzap.protocol import ALL_GFNS, Allocator, Cpu, Mmu, Number, Operation, Protocol, Range
from mtrrzap.protocol.atomic import position_of


class Difference(NamedTuple):
    """Where the C does something else: the schedule up to there, what was expected, what came."""

    schedule: tuple[Choice, ...]
    expected: tuple[str, ...]
    printed: tuple[str, ...]


class Driven(NamedTuple):
    """What was driven through the C, and the first difference."""

    transitions: int
    steps: int
    difference: Difference | None


def line(operation: Operation, result: Any, value: Any) -> str:
    """Return what the test build prints for an operation: object, verb, order, arguments, result.

    ``value`` is the object's value after the operation.
    """
    target, args = operation.target, [_number(each) for each in operation.args]
    name = {Mmu: "mmu", Allocator: "memory", Cpu: "cpu"}.get(type(target), target.name)
    order = operation.order.value
    words = " ".join(map(str, args))
    match operation.verb:
        case "load":
            return f"{name} load {order} = {_number(result)}"
        case "store" | "post":
            return f"{name} store {order} {words}"
        case "cmpxchg":
            return f"{name} cmpxchg {order} {words} = {_number(result)}"
        case "wait_until" if order != "relaxed" and type(operation.target.initial) is not bool:
            return f"{name} wait {order} = {_number(value)}"
        case "wait_until" | "wait_reached" | "reached":
            return f"{name} load {order} = {_number(value)}"
        case "alloc":
            return f"{name} alloc = {int(result)}"
        case "add":
            return f"{name} add {words} = {int(result)}"
        case "is_empty":
            return f"{name} is_empty = {int(result)}"
        case "pop_first":
            return f"{name} pop_first = {' '.join(map(str, result)) if result else 'none'}"
        case "take":
            return " ".join(f"{name} take = {' '.join(f'{a} {b}' for a, b in result)}".split())
    return f"{name} {operation.verb} {words}".rstrip()


def _number(value: Any) -> int:
    return position_of(value) if isinstance(value, Number) else int(value)


class _Walk:
    """Follows schedules through the model, and says what the C must print."""

    def __init__(
        self, protocol: Protocol, vcpus: int, requests: int, ranges: Sequence[Any]
    ) -> None:
        world = scenario(protocol, vcpus, requests, ranges=ranges, alloc_fails=protocol.allocates)
        self.model = Model(world, NoGhost())
        self.stepper = Stepper(self.model, symmetry=False)

    def graph(self) -> Graph:
        return build(self.stepper)

    def commands(self, schedule: tuple[Choice, ...]) -> Iterator[tuple[str, list[str]]]:
        """Yield every command of a schedule, and the lines it must print."""
        model = self.model
        yield "start", []
        state = model.initial
        for vcpu, choice in schedule:
            local: LocalState = model.locals.items[state[vcpu]]
            if local.calling:
                words = " ".join(f"{start} {end}" for start, end in self._request(local))
                yield f"call {vcpu} {words}", []
            option = model.alternatives[state[vcpu]][choice]
            at = model.vcpus + option.target
            before = model.values[option.target].items[state[at]]
            result = option.operation.target.effect(before, option.operation, vcpu)[option.choice][
                1
            ]
            move = next(
                m for m in self.stepper.moves(state) if (m.vcpu, m.choice) == (vcpu, choice)
            )
            value = model.values[option.target].items[move.after[at]]
            after: LocalState = model.locals.items[move.after[vcpu]]
            printed = [f"{vcpu} {line(option.operation, result, value)}"]
            if after.place is None or after.request != local.request:
                printed.append(f"return {vcpu}")
            yield f"step {vcpu} {option.choice}", printed
            state = move.after

    def _request(self, local: LocalState) -> tuple[Range, ...]:
        group = self.model.groups.index(local.group)
        found: tuple[Range, ...] = self.model.scenario.requests[group][local.request]
        return found


def drive(
    program: Path,
    protocol: Protocol,
    vcpus: int = 2,
    requests: int = 1,
    ranges: Sequence[tuple[Range, ...]] = ((ALL_GFNS,),),
) -> Driven:
    """Drive every transition of the checker's graph through the C of the test build."""
    walk = _Walk(protocol, vcpus, requests, ranges)
    graph = walk.graph()
    schedules = list(_covering(graph))
    script: list[str] = []
    expected: list[tuple[int, str]] = []
    steps = 0
    for number, schedule in enumerate(schedules):
        steps += len(schedule)
        for command, lines in walk.commands(schedule):
            script.append(command)
            expected += [(number, each) for each in lines]
    done = ran([program], "\n".join(script) + "\n")
    printed = [each.rstrip() for each in done.stdout.splitlines()]
    if done.returncode:
        printed.append(f"the program ends with status {done.returncode}")
    for at, (number, wanted) in enumerate(expected):
        if at >= len(printed) or printed[at] != wanted:
            first = next(i for i, (other, _) in enumerate(expected) if other == number)
            return Driven(
                graph.transitions,
                steps,
                Difference(
                    schedules[number],
                    tuple(each for _, each in expected[first : at + 1]),
                    tuple(printed[first : at + 1]),
                ),
            )
    return Driven(graph.transitions, steps, None)


def _covering(graph: Graph) -> Iterator[tuple[Choice, ...]]:
    """Yield schedules that take every edge: a shortest way to it, then on along new ones."""
    left = {(at, edge) for at, edges in enumerate(graph.edges) for edge in edges}
    for at, edges in enumerate(graph.edges):
        for edge in edges:
            if (at, edge) not in left:
                continue
            schedule = list(graph.path(at))
            here: int = at
            following = edge
            while True:
                left.discard((here, following))
                schedule.append(Choice(following.vcpu, following.choice))
                here = following.to
                new = next((e for e in graph.edges[here] if (here, e) in left), None)
                if new is None:
                    break
                following = new
            yield tuple(schedule)


def accepted(protocol: Protocol, log: Iterable[str]) -> int:
    """Follow the log of a free run in the model; return how many operations it has.

    Raises:
        UserError: naming the first line that the protocol does not do.
    """
    values = {each.name: each.initial for each in protocol.vm.objects()}
    calls: dict[int, _Call] = {}
    count = 0
    for number, text in enumerate(log, 1):
        words = text.split()
        if words[0] == "call":
            pairs = [int(each) for each in words[2:]]
            ranges = tuple(map(Range, pairs[::2], pairs[1::2]))
            calls[int(words[1])] = _Call(protocol, ranges)
        elif words[0] == "return":
            if calls.pop(int(words[1])).operation is not None:
                raise UserError(f"returns early: {text}", place=f"line {number}")
        else:
            vcpu, printed = int(words[0]), " ".join(words[1:])
            call = calls.get(vcpu)
            problem = "no call" if call is None else call.follow(values, vcpu, printed)
            if problem is not None:
                raise UserError(f"{text!r}, but {problem}", place=f"line {number}")
            count += 1
    return count


class _Call:
    """One call of a vCPU, followed operation by operation."""

    def __init__(self, protocol: Protocol, ranges: tuple[Range, ...]) -> None:
        self.steps = protocol.call(protocol.vm(), ranges)
        self.operation: Operation | None = None
        self.ending = False
        self._next(None)

    def _next(self, result: Any) -> None:
        try:
            self.operation = self.steps.send(result)
        except StopIteration:
            self.operation = None

    def follow(self, values: dict[str, Any], vcpu: int, printed: str) -> str | None:
        """Take one step; return what was expected instead, if the log has something else."""
        operation = self.operation
        if operation is None:
            return "the call is over"
        target = operation.target
        if operation.verb == "zap":
            verb = "zap_end" if self.ending else "zap_begin"
            self.ending = not self.ending
            wanted = line(Operation(target, verb, operation.args), None, None)
            if not self.ending and wanted == printed:
                self._next(None)
            return None if wanted == printed else wanted
        found = target.effect(values[target.name], operation, vcpu)
        if not found and operation.verb in ("wait_until", "wait_reached"):
            # A loop reads, and reads again.
            seen = line(operation, None, values[target.name])
            return None if seen == printed else seen
        for value, result in found:
            if line(operation, result, value) == printed:
                values[target.name] = value
                self._next(result)
                return None
        return " or ".join(line(operation, result, value) for value, result in found) or "blocked"
