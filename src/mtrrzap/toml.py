"""TOML that a user writes: a sweep's spec, a policy's row."""

import tomllib
from typing import Any

from mtrrzap.errors import UserError

DEEPEST = 20
"""Levels of nesting. No file here needs more than four."""


def read_toml(text: str, place: str) -> dict[str, Any]:
    """Return a TOML document; ``place`` names its file in errors.

    Raises:
        UserError: if it is no TOML, or has a whole number that does not fit in 64 bits, which TOML
            1.0 asks for and ``tomllib`` does not check. Longer ones cannot even be printed.
    """
    try:
        told = tomllib.loads(text)
    except RecursionError as error:
        raise _too_deep(place) from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"invalid TOML: {error}", place=place, mend="fix that line") from error
    except ValueError as error:  # int() refuses so many digits
        raise _too_large("a key", place) from error
    _bounded(told, "", place, 0)
    return told


def _bounded(value: object, key: str, place: str, depth: int) -> None:
    if depth > DEEPEST:
        raise _too_deep(place)
    if isinstance(value, dict):
        for name, inner in value.items():
            _bounded(inner, f"{key}.{name}" if key else name, place, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _bounded(inner, key, place, depth + 1)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise _too_large(key, place)


def _too_deep(place: str) -> UserError:
    return UserError("invalid TOML: nested too deeply", place=place, mend="flatten it")


def _too_large(key: str, place: str) -> UserError:
    return UserError(
        f"{key}: a number of more than 64 bits", place=place, mend="write a smaller one"
    )
