"""Options that several commands share, and how a command takes a group of them.

A group is a frozen dataclass whose fields are options. ``with_options`` turns it into the options
themselves, so that typer sees one parameter an option and the command one parameter a group.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from mtrrzap.api.traces import rescale
from mtrrzap.cli.main import begin
from mtrrzap.errors import UserError
from mtrrzap.gfn import parse_size
from mtrrzap.guest.trace import MAX_VCPUS, Trace
from mtrrzap.kvm.replay import HOST_MAXPHYADDR, Host

Result = TypeVar("Result")
_CONTEXT = "ctx"
_GIVEN: ContextVar[frozenset[str]] = ContextVar("given", default=frozenset())
"""The parameters that the command line gives, not their defaults."""


def unused(why: str, *names: str) -> None:
    """Raise ``UserError`` if the command line gives one of these parameters: it has no effect."""
    for name in names:
        if name in _GIVEN.get():
            raise UserError(f"no effect {why}", place=name, mend="leave it out")


def _given(context: typer.Context | None) -> frozenset[str]:
    if context is None:
        return frozenset()
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(n for n, source in sources.items() if source and source.name == "COMMANDLINE")


def with_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Let a command take groups of options: parameters whose type is a dataclass.

    Every field of the dataclass becomes an option of its own, in the group's place, with the
    field's ``Annotated`` type and default. The command receives the dataclass, filled::

        @dataclass(frozen=True, kw_only=True)
        class LimitOptions:
            states: Annotated[int, typer.Option(help="Stop after this many states.")] = 1000

        @with_options
        def search(name: str, limits: LimitOptions) -> None: ...  # search NAME --states 1000

    Two groups of one command must not share a field's name (``ValueError``).

    A ``UserError`` whose place is one of the parameters, in the library's words (``memory``), gets
    the option's name in its place (``--memory``).
    """
    groups, flat = _flattened(command)

    @functools.wraps(command)
    def called(**given: Any) -> Result:
        values = flat.bind(**given)
        values.apply_defaults()
        taken = values.arguments
        _GIVEN.set(_given(taken.pop(_CONTEXT)))
        for name, group in groups.items():
            taken[name] = group(**{field.name: taken.pop(field.name) for field in fields(group)})
        begin()
        try:
            return command(**taken)
        except KeyboardInterrupt:
            raise typer.Abort from None  # typer makes a status of the other, without a word
        except UserError as error:
            _reword(error, flat)
            raise

    # typer reads both: the signature for names and defaults, the annotations for types.
    vars(called)["__signature__"] = flat
    called.__annotations__ = {name: p.annotation for name, p in flat.parameters.items()}
    return called


def _flattened(command: Callable[..., Any]) -> tuple[dict[str, Any], inspect.Signature]:
    """Return the groups by parameter, and the command's signature with their options in place."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    groups = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}
    nested = (_options_of(groups[p.name]) if p.name in groups else (p,) for p in parameters)
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter(_CONTEXT, keyword, default=None, annotation=typer.Context)
    options = [p.replace(kind=keyword) for p in chain.from_iterable(nested)]
    flat = inspect.Signature([*options, context])
    for parameter in flat.parameters.values():
        _name_value(parameter)
    return groups, flat


_VALUES = {int: "N", float: "N", str: "TEXT", Path: "PATH"}


def _name_value(parameter: inspect.Parameter) -> None:
    """Name an option's value in the help, where typer would show Python's type."""
    kind, *infos = get_args(parameter.annotation) or (None,)
    inner = {kind, *get_args(kind), *chain.from_iterable(map(get_args, get_args(kind)))}
    for info in infos:
        if isinstance(info, OptionInfo) and info.metavar is None:
            info.metavar = next((name for of, name in _VALUES.items() if of in inner), None)


def _reword(error: UserError, flat: inspect.Signature) -> None:
    """Name the option instead of the library's parameter."""
    if parameter := flat.parameters.get(error.place or ""):
        error.place = _spelled(parameter)
    if error.mend and "force" in flat.parameters:
        error.mend = error.mend.replace("use force", "add --force")


def _spelled(parameter: inspect.Parameter) -> str:
    """Return a parameter as the user writes it: ``--page-size``, ``FILE``."""
    info = next(iter(getattr(parameter.annotation, "__metadata__", ())), None)
    if isinstance(info, ArgumentInfo):
        return info.metavar or parameter.name.upper()
    # Inside of Annotated, typer has the first name in the place of the default.
    names = (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ()))
    declared = [name.partition("/")[0] for name in names if isinstance(name, str)]
    usual = f"--{parameter.name.replace('_', '-')}"
    return next((name for name in declared if name.startswith("--")), usual)


def _options_of(group: Any) -> Iterator[inspect.Parameter]:
    types = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        kind = inspect.Parameter.KEYWORD_ONLY
        yield inspect.Parameter(field.name, kind, default=default, annotation=types[field.name])


STDIN, STDOUT = Path("/dev/stdin"), Path("-")


def read_from(file: Path) -> Path:
    """Return where to read a file that the command line names; - is standard input."""
    return STDIN if str(file) == "-" else file


def _all_read_from(files: list[Path] | None) -> list[Path] | None:
    return files and [read_from(file) for file in files]


TracesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Traces, or names of shipped recordings; - is standard input. Default: all shipped.",
        callback=_all_read_from,
    ),
]
TraceArgument = Annotated[
    Path,
    typer.Argument(
        help="A trace, or a shipped recording's name; - is standard input.", callback=read_from
    ),
]
CaptureArgument = Annotated[
    Path, typer.Argument(help="A capture: text (plain or compressed), trace.dat, CSV; - is stdin.")
]
_POLICY = "see 'mtrrzap policies'; +9 is short for Base2+9."
PolicyOption = Annotated[
    list[str] | None,
    typer.Option("--policy", "-p", help=f"A policy's name, {_POLICY} Repeatable."),
]
OnePolicyOption = Annotated[
    str, typer.Option("--policy", "-p", help=f"The policy's name, {_POLICY}")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
VcpusOption = Annotated[
    int | None,
    typer.Option(
        help="Rescale the guest to this many vCPUs, if the trace shows what they do.",
        min=1,
        max=MAX_VCPUS,
    ),
]


@dataclass(frozen=True, kw_only=True)
class IntelHostOptions:
    """The host, with Intel's EPT and a device whose DMA is not coherent."""

    host_maxphyaddr: Annotated[
        int,
        typer.Option(help="The host's MAXPHYADDR in bits; zaps are clamped to it.", min=32, max=52),
    ] = HOST_MAXPHYADDR
    quirk: Annotated[
        bool, typer.Option("--quirk/--no-quirk", help="Whether KVM_X86_QUIRK_CD_NW_CLEARED is on.")
    ] = True

    def host(self) -> Host:
        """Return the host that the options describe."""
        return Host(
            maxphyaddr=self.host_maxphyaddr,
            quirk_cd_nw_cleared=self.quirk,
            ept=True,
            noncoherent_dma=True,
        )


@dataclass(frozen=True, kw_only=True)
class HostOptions(IntelHostOptions):
    """The host: its address width, KVM's quirk, paging and devices."""

    ept: Annotated[
        bool,
        typer.Option("--ept/--npt", help="The host's second-level paging: Intel EPT or AMD NPT."),
    ] = True
    noncoherent_dma: Annotated[
        bool,
        typer.Option("--noncoherent-dma/--coherent-dma", help="Whether a device does not snoop."),
    ] = True

    def host(self) -> Host:
        """Return the host that the options describe."""
        return replace(super().host(), ept=self.ept, noncoherent_dma=self.noncoherent_dma)


@dataclass(frozen=True, kw_only=True)
class GuestOptions:
    """Another size of guest than the trace's."""

    vcpus: VcpusOption = None
    memory: Annotated[
        str | None,
        typer.Option(
            help="Rescale the guest to this much memory, for example 64G, if that is sound."
        ),
    ] = None

    def rescaled(self, trace: Trace) -> Trace:
        """Return the trace of a guest of this size. Raises ``UserError`` where that is unsound."""
        memory = None if self.memory is None else parse_size(self.memory)
        return rescale(trace, vcpus=self.vcpus, memory=memory)


@dataclass(frozen=True, kw_only=True)
class FormatOptions:
    """JSON or CSV in place of tables."""

    json: JsonOption = False
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False

    def __post_init__(self) -> None:
        if self.json and self.csv:
            raise UserError("--json and --csv cannot be combined", mend="choose one")


def memory_size(text: str) -> int:
    """Return a guest's memory in bytes: ``16G``, ``512M``, or 0 if it is unknown.

    Raises ``UserError`` unless 52 bits can address it.
    """
    count = 0 if text == "0" else parse_size(text)
    if count > 1 << 52:
        raise UserError(f"invalid size {text!r}", place="memory", mend="give at most 4096T")
    return count
