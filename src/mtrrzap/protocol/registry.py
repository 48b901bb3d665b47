"""The table of protocols, and how a function becomes one."""

import contextlib
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.protocol.direct import direct
from mtrrzap.protocol.operation import Range, Steps
from mtrrzap.protocol.review import review
from mtrrzap.protocol.shared import SharedState
from mtrrzap.protocol.sketch import sketch
from mtrrzap.protocol.source import judge, ships
from mtrrzap.protocol.ticket import ticket
from mtrrzap.protocol.v3 import v3
from mtrrzap.protocol.v4 import v4
from mtrrzap.protocol.v4_patch10 import v4_patch10

Call = Callable[[Any, tuple[Range, ...]], Steps]
"""A protocol function: the VM and the ranges of one request."""


@dataclass(frozen=True)
class Protocol:
    """One protocol: its function, the VM it works on, and where it comes from."""

    name: str
    call: Call
    vm: type[SharedState]
    allocates: bool
    source: str


def protocol(call: Call, source: str, *, allocates: bool = True) -> Protocol:
    """Make a protocol of a function; its first parameter's annotation names the VM's class.

    Raises:
        UserError: if it is not a generator function of ``(vm, ranges)`` with an annotated ``vm``,
            or its source drops an operation.
    """
    name = getattr(call, "__name__", str(call))
    if not inspect.isfunction(call):
        raise UserError(f"{name} is not a function", mend="pass a generator function")
    place = f"{inspect.getsourcefile(call)}:{call.__code__.co_firstlineno}"
    if not inspect.isgeneratorfunction(call):
        _judge_plain(call)
        mend = "yield the operations"
        raise UserError(f"{name} is not a generator function", place=place, mend=mend)
    parameters = list(inspect.signature(call).parameters.values())
    by_place = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    take = "take (vm, ranges)"
    if len(parameters) != 2:
        raise UserError(f"{name} takes {len(parameters)} parameters", place=place, mend=take)
    if not {each.kind for each in parameters} <= by_place:
        raise UserError(f"{name} has keyword-only parameters", place=place, mend=take)
    vm = _annotated(call, parameters[0].name, place)
    if not (isinstance(vm, type) and issubclass(vm, SharedState)):
        raise UserError(
            f"{name} does not name the class of its VM",
            place=place,
            mend=f"annotate it: {parameters[0].name}: Vm, a subclass of mtrrzap.protocol.Vm",
        )
    for each in vm.objects():
        if not _hashable(each.initial):
            raise UserError(
                f"{vm.__name__}.{each.name} starts with {each.initial!r}, which is mutable",
                place=place,
                mend="an object's value must be immutable and hashable",
            )
    if not ships(call.__module__):
        judge(call, vm)
    return Protocol(name=name, call=call, vm=vm, allocates=allocates, source=source)


def _judge_plain(call: Call) -> None:
    """Name the first operation that a function without any yield drops, if it has a VM."""
    first = next(iter(inspect.signature(call).parameters), "")
    vm = None
    with contextlib.suppress(UserError):
        vm = _annotated(call, first, "")
    if isinstance(vm, type) and issubclass(vm, SharedState):
        judge(call, vm)


def _annotated(call: Call, parameter: str, place: str) -> Any:
    """Return what a parameter's annotation means; the other annotations are not looked at."""
    annotation = call.__annotations__.get(parameter)
    if not isinstance(annotation, str):
        return annotation
    try:
        return typing.get_type_hints(call)[parameter]
    except Exception as error:
        raise UserError(
            f"cannot resolve an annotation of {call.__name__}: {error}",
            place=place,
            mend="import the class that it names, or define it before",
        ) from error


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except Exception:
        return False
    return True


PROTOCOLS: dict[str, Protocol] = {
    row.name: row
    for row in (
        protocol(direct, "KVM up to Linux 6.10", allocates=False),
        protocol(v3, "v3 of the series, patch 9 (June 2023)"),
        protocol(v4, "v4 of the series, patch 9 (14 July 2023)"),
        protocol(v4_patch10, "v4 of the series, patch 10 (14 July 2023)"),
        protocol(sketch, "discussion of v2 (24 May 2023)"),
        protocol(review, "review of v4's patch 9 (25 August 2023)", allocates=False),
        protocol(ticket, "this project", allocates=False),
    )
}
"""Every protocol that comes with the package, in the order of their history."""
