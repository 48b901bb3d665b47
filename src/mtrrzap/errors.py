"""The one kind of error that a user sees: where, what, and how to mend it, on one line."""

from functools import cache
from typing import Any


class UserError(Exception):
    """Bad input or a missing prerequisite. The command line prints it and exits with status 2.

    ``place`` names a file and line, an MSR, an option, ...; ``mend`` says what to do about it.
    """

    def __init__(self, problem: str, *, place: str | None = None, mend: str | None = None) -> None:
        """Join the three parts into one line; ``problem`` alone is enough."""
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.mend = mend

    def __str__(self) -> str:
        """Render as ``place: problem; mend``."""
        head = f"{self.place}: {self.problem}" if self.place else self.problem
        line = f"{head}; {self.mend}" if self.mend else head
        return printable(" ".join(line.split()))


def expect(value: object, kinds: Any, place: str, mend: str) -> None:
    """Raise ``UserError`` unless a value is of one of these types, as ``isinstance`` takes them."""
    if not isinstance(value, kinds):
        raise UserError(f"invalid value {value!r:.80}", place=place, mend=mend)


def printable(text: str, keep: str = "") -> str:
    r"""Return text that cannot steer a terminal: what is not printable is escaped.

    That is control characters, escape sequences, characters that change the direction of the text,
    and bytes of a file's name that are not UTF-8 (``\xff``). ``keep`` lists exceptions.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    undecoded = 0xDC80 <= ord(char) <= 0xDCFF  # as "surrogateescape" leaves a byte
    return f"\\x{ord(char) - 0xDC00:02x}" if undecoded else repr(char)[1:-1]


def counted(count: int, noun: str) -> str:
    """Return ``1 vCPU``, ``1,000 vCPUs``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


@cache
def docs_page(name: str) -> str:
    """Return where to find a page of the documentation.

    That is on the site which the package's metadata name, or in the source tree, which an installed
    package has not.
    """
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        addresses = metadata("mtrrzap").get_all("Project-URL") or ()
    except PackageNotFoundError:
        addresses = ()
    for label, _, address in (each.partition(", ") for each in addresses):
        if label == "Documentation":
            return f"{address.rstrip('/')}/{name}.html"
    return f"docs/{name}.md in the source tree"


class StoppedError(SystemExit):
    """A signal ends this process: no exit that a user's file has asked for."""
