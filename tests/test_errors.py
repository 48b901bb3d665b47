"""What a message may contain: no character of a stranger's text steers the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtrrzap.errors import UserError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe 3 µs → é", "Größe 3 µs → é"),
        ("\x1b[31mred\x07\x7f", r"\x1b[31mred\x07\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb\u2066c\u200f\ufeff", r"a\u202eb\u2066c\u200f\ufeff"),
        ("bad\udcff.trace", r"bad\xff.trace"),
        ("\ud800", r"\ud800"),
        ("two\nlines\r\ttab", r"two\nlines\r\ttab"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_nothing_else_comes_through(text: str) -> None:
    assert printable(text).isprintable()
    assert all(c == "\n" or c.isprintable() for c in printable(text, keep="\n"))
    error = str(UserError(text, place=text, mend=text))
    assert error.isprintable()
