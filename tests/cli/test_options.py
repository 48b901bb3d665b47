"""Groups of options: the command line has the options, the command their group."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from mtrrzap.cli.options import with_options
from mtrrzap.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Parent:
    size: Annotated[int, typer.Option("--size", "-s", help="How large.", min=1)] = 7
    quick: Annotated[bool, typer.Option("--quick/--slow")] = True


@dataclass(frozen=True, kw_only=True)
class Group(Parent):
    page_size: Annotated[str | None, typer.Option(help="Of a page.")] = None


def app(seen: list[object], error: UserError | None = None) -> typer.Typer:
    made = typer.Typer()

    @made.command()
    @with_options
    def command(
        file: Annotated[str, typer.Argument(metavar="[TRACE]")] = "x",
        *,
        group: Group,
        last: Annotated[int, typer.Option()] = 3,
    ) -> None:
        """Do it."""
        seen.append((file, group, last))
        if error is not None:
            raise error

    return made


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ("x", Group(), 3)),
        (
            ["f", "-s", "9", "--slow", "--page-size", "4K", "--last", "1"],
            ("f", Group(size=9, quick=False, page_size="4K"), 1),
        ),
    ],
)
def test_a_group(words: list[str], expected: object) -> None:
    seen: list[object] = []
    ended = CliRunner().invoke(app(seen), words)
    assert (ended.exit_code, seen) == (0, [expected])


def test_the_order_in_the_help_is_that_of_the_parameters() -> None:
    shown = CliRunner().invoke(app([]), ["--help"]).output
    places = [shown.index(name) for name in ("--size", "--quick", "--page-size", "--last")]
    assert places == sorted(places)


def test_a_limit_of_an_option_in_a_group() -> None:
    assert CliRunner().invoke(app([]), ["--size", "0"]).exit_code == 2


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("page_size", "--page-size"),
        ("size", "--size"),
        ("quick", "--quick"),
        ("last", "--last"),
        ("file", "[TRACE]"),
        ("a.trace:3", "a.trace:3"),
        (None, None),
    ],
)
def test_an_error_names_the_option(place: str | None, shown: str | None) -> None:
    error = UserError("no", place=place)
    caught = CliRunner().invoke(app([], error)).exception
    assert caught is error
    assert error.place == shown


def test_two_groups_with_one_name() -> None:
    with pytest.raises(ValueError, match="duplicate parameter name"):

        @with_options
        def _twice(one: Parent, two: Group) -> None: ...
