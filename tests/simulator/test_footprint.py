"""Where a walk takes from vCPUs what they run on, and start at, counted by hand."""

from dataclasses import replace

import pytest

from helpers import guests
from helpers.costs import COSTS
from mtrrzap.gfn import Range
from mtrrzap.guest.trace import Slot
from mtrrzap.kvm.policy import Walk
from mtrrzap.kvm.replay import Host
from mtrrzap.simulator import Stage
from mtrrzap.simulator.footprint import BLOCK, START, TEXT, Footprint

GIB = 0x40000
SLOTS = (Slot(0, 3 * GIB, "ram"), Slot(4 * GIB, 8 * GIB, "ram"))
HOME = 3 * GIB - BLOCK
FOUND = Footprint(
    replace(guests.seabios(2).header, memory=7 << 30, memslots=SLOTS),
    Host(),
    1,
    replace(COSTS, again=1, firmware_blocks=2, kernel_blocks=1, mmio_blocks=0),
)


@pytest.mark.parametrize(
    ("stage", "start", "end", "before"),
    [
        (Stage.UNPAGED, 0, 1 << 40, HOME),
        (Stage.FIRMWARE, 0, 1 << 40, HOME),
        (Stage.FIRMWARE, 0, HOME, None),
        (Stage.FIRMWARE, HOME, 3 * GIB, HOME),
        (Stage.KERNEL, 0, 1 << 40, TEXT),
        (Stage.KERNEL, TEXT + 1, 1 << 40, None),
        (Stage.KERNEL, 0, 0x100, None),
    ],
)
def test_uses(stage: Stage, start: int, end: int, before: int | None) -> None:
    """As many visits as a walk makes that ends at the frame in question."""
    visits = FOUND.uses(Range(start, end), stage)
    if before is None:
        assert visits is None
    elif start == before:
        assert visits == 0
    else:
        assert (
            visits == FOUND.work(Range(start, before), Walk.LEAFS, stage, touched=False).visits > 0
        )


def test_uses_comes_early_for_a_kernel_and_late_for_firmware() -> None:
    everything = Range(0, 1 << 40)
    kernel, firmware = (FOUND.uses(everything, s) for s in (Stage.KERNEL, Stage.FIRMWARE))
    whole = FOUND.work(everything, Walk.LEAFS, Stage.FIRMWARE, touched=False).visits
    assert kernel is not None
    assert firmware is not None
    assert kernel < 600 < firmware < whole


@pytest.mark.parametrize("stage", [Stage.UNPAGED, Stage.FIRMWARE, Stage.KERNEL])
def test_starts(stage: Stage) -> None:
    """The block at 0 is there: down four levels, then entry by entry."""
    assert FOUND.starts(Range(0, 1 << 40), stage) == 3 + START[stage]
    assert FOUND.starts(Range(START[stage] + 1, 1 << 40), stage) is None
