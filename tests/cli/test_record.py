"""``mtrrzap record``'s own arguments: what reaches QEMU, what is a mistake, what is printed."""

import io
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from helpers.cli import Run
from mtrrzap.cli import output as say
from mtrrzap.cli import record as command
from mtrrzap.guest.record import RecordOptions


class TakenError(Exception):
    """Carries the options instead of a recording."""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command, registered without any settings, that ends before it records."""

    def take(options: RecordOptions, _progress: object) -> None:
        raise TakenError(options)

    monkeypatch.setattr(command, "check", lambda _: None)  # QEMU need not be there
    monkeypatch.setattr(command, "record_guest", take)
    made = typer.Typer(context_settings={"help_option_names": ["-h", "--help"]})
    made.command("record")(command.record)
    return made


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ((), ()),
        (("--",), ()),
        (("--", "-m", "2G"), ("-m", "2G")),
        (("--", "-snapshot", "-o", "--", "-h"), ("-snapshot", "-o", "--", "-h")),
        (("--force", "--", "--force"), ("--force",)),
    ],
)
def test_what_follows_the_dashes_is_for_qemu(
    app: typer.Typer, words: tuple[str, ...], extra: tuple[str, ...]
) -> None:
    caught = CliRunner().invoke(app, ["-o", "x", *words]).exception
    assert isinstance(caught, TakenError)
    assert caught.args[0].extra == extra
    assert caught.args[0].force == ("--force" in words)


@pytest.mark.parametrize("words", [("-m", "2G"), ("-snapshot",), ("--nonsense", "--", "-m", "2G")])
def test_other_options_are_a_mistake(app: typer.Typer, words: tuple[str, ...]) -> None:
    ran = CliRunner().invoke(app, ["-o", "x", *words])
    assert ran.exit_code == 2
    assert "No such option" in ran.output


@pytest.mark.parametrize(
    "words",
    [("-o", "x", "disk"), ("disk", "-o", "x", "--", "-m", "2G"), ("-o", "x", "-", "--", "-s")],
)
def test_a_word_before_the_dashes_is_a_mistake(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("record", *words, *(() if "--" in words else ("--",)))
    assert ran.status == 2
    assert ran.err.startswith("mtrrzap: record: unexpected argument ")
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


class Full(io.StringIO):
    """A stream on a full disk."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_line_that_cannot_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result goes to standard error instead, and nowhere if that is gone too."""
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", errors)
    say.result("rec\udcff.trace: done")
    assert errors.getvalue() == "rec\\xff.trace: done\n"
    for stream in (None, Full()):
        monkeypatch.setattr(sys, "stderr", stream)
        say.result("done")
        say.note("done")
