"""A memory map as a coloured strip, with a letter a type so that it reads without colour too."""

from collections.abc import Sequence

from rich.text import Text

from mtrrzap.x86.memtype import MemType

_LOOK: dict[MemType | None, tuple[str, str]] = {
    MemType.UC: ("u", "white on red"),
    MemType.WC: ("c", "black on yellow"),
    MemType.WT: ("t", "white on blue"),
    MemType.WP: ("p", "white on magenta"),
    MemType.WB: ("B", "black on green"),
    None: ("?", "black on white"),
}
LEGEND = "B: WB, u: UC, c: WC, t: WT, p: WP, ?: undefined"
CELLS = 64


def strip(pieces: Sequence[tuple[int, int, MemType | None]], label: str) -> Text:
    """Return one line; every piece has a cell or more, the larger (in powers of two) the more."""
    text = Text(f"{label:8}")
    if not pieces:
        return text
    weights = [max(1, (end - start).bit_length() - 12) for start, end, _ in pieces]
    scale = max(0, CELLS - len(pieces)) / sum(weights)
    for (_, _, kind), weight in zip(pieces, weights, strict=True):
        letter, style = _LOOK[kind]
        text.append(letter * (1 + round(weight * scale)), style=style)
    return text
