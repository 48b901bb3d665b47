"""CR0 across RESET and INIT, and the values that #GP."""

import pytest

from mtrrzap.x86 import cr0


def test_reset_and_init() -> None:
    assert cr0.RESET == 0x60000010
    assert cr0.after_init(cr0.RESET) == 0x60000010
    assert cr0.after_init(0x80050033) == 0x10
    assert cr0.after_init(0xC0050033) == 0x40000010


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (0x80050033, None),
        (0x60000010, None),
        (0x40000010, None),
        (0x20000010, "NW = 1 needs CD = 1"),
        (0x80000010, "PG = 1 needs PE = 1"),
        (1 << 32, "bits 63:32 are reserved"),
    ],
)
def test_broken_rule(value: int, rule: str | None) -> None:
    assert cr0.broken_rule(value) == rule
