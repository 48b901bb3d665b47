"""Foreign text in tables and CSV: neither markup, nor escapes, nor formulas."""

import csv
import io

import pytest
from rich.console import Console

from mtrrzap.report.text import as_csv, print_table


def test_a_table_shows_text_as_it_is() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=200)
    cells = ("[red]column[/]", "\x1b[2J"), [("[/x]", "\x9b1m")]
    print_table(console, *cells, title="[bold]\x1b]0;title\x07")
    out = console.file.getvalue()  # type: ignore[attr-defined]
    for text in ("[red]column[/]", r"\x1b[2J", "[/x]", r"\x9b1m", r"[bold]\x1b]0;title\x07"):
        assert text in out
    assert not {"\x1b[2J", "\x1b]", "\x07", "\x9b"} & {
        out[i : i + n] for i in range(len(out)) for n in (1, 2, 4)
    }


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_text_is_a_formula(first: str) -> None:
    formula = f"{first}cmd|' /C calc'!A0"
    header, row = csv.reader(
        io.StringIO(as_csv([(formula, "fine", -1, -0.5, None)], (formula, *"bcde")))
    )
    assert header == [f"'{formula}", *"bcde"]
    assert row == [f"'{formula}", "fine", "-1", "-0.5", ""]


def test_no_control_character_comes_first() -> None:
    for char in "\t\r\n\x00":
        (_, row) = csv.reader(io.StringIO(as_csv([(f"{char}=1",)], ("a",))))
        assert row == [f"{repr(char)[1:-1]}=1"]
