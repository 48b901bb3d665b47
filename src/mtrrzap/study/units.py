"""How sizes of memory are read, and how sizes and cycles are written."""

from mtrrzap.errors import UserError

_SHIFTS = {"T": 40, "G": 30, "M": 20}


def parse_size(text: str) -> int:
    """Return a number of bytes: ``64G``, ``12T``. Raises ``UserError``."""
    number, unit = text[:-1], text[-1:].upper()
    if unit not in _SHIFTS or not (number.isascii() and number.isdecimal() and len(number) < 20):
        raise UserError(
            f"invalid size {text!r}",
            place="memory",
            mend="write a number and its unit: for example 512M, 64G or 12T",
        )
    return int(number) << _SHIFTS[unit]


def size(memory: int) -> str:
    """Return a number of bytes in the largest unit that divides it: ``64 GiB``."""
    for unit, shift in _SHIFTS.items():
        if memory % (1 << shift) == 0:
            return f"{memory >> shift} {unit}iB"
    return f"{memory:,} bytes"


def millions(cycles: float) -> float:
    """Return millions of cycles, rounded to three digits: a model has no more."""
    return float(f"{cycles / 1e6:.3g}")


def mcycles(cycles: float) -> str:
    """Return millions of cycles to three digits: ``0.25``, ``1,230``."""
    rounded = millions(cycles) if cycles >= 1 else 0.0
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def with_unit(cycles: float) -> str:
    """Return cycles to three digits in the unit that suits them: ``1.23 kcycles``."""
    for unit, name in ((1e6, "Mcycles"), (1e3, "kcycles")):
        if cycles >= unit:
            return f"{float(f'{cycles / unit:.3g}'):,g} {name}"
    return f"{float(f'{cycles:.3g}'):g} cycles"
