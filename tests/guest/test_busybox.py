"""Which programs run in a guest that has no library."""

import pytest

from helpers.elf import DYNAMIC, INTERPRETER, elf
from mtrrzap.guest.busybox import is_static_elf

NEEDED, FLAGS_1 = 1, 0x6FFFFFFB
PIE = 0x08000000


def test_a_static_program() -> None:
    assert is_static_elf(elf())
    assert is_static_elf(elf(DYNAMIC, tags=((FLAGS_1, PIE),), kind=3))


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF\x02",
        b"\x7fELF\x02" + bytes(200),
        elf()[:-1],
        elf()[:100],
        elf(ident=b"\x7fELF\x01\x01\x01"),
        elf(ident=b"\x7fELF\x02\x02\x01"),
        elf(machine=183),
        elf(kind=1),
        elf(kind=3),
        elf(kind=4),
        elf(entry=0),
        elf(flags=4),
        elf(INTERPRETER),
        elf(DYNAMIC, tags=((FLAGS_1, PIE), (NEEDED, 1)), kind=3),
        elf(DYNAMIC, tags=((NEEDED, 1),)),
    ],
)
def test_what_is_none(program: bytes) -> None:
    assert not is_static_elf(program)


def test_every_cut_is_noticed() -> None:
    whole = elf(DYNAMIC, tags=((FLAGS_1, PIE),), kind=3)
    assert not [size for size in range(len(whole)) if is_static_elf(whole[:size])]
