"""How sizes of memory and cycles are written."""

from mtrrzap.gfn import SHIFTS


def size(memory: int) -> str:
    """Return a number of bytes in the largest unit that divides it: ``64 GiB``."""
    for unit, shift in SHIFTS.items():
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
