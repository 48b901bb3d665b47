"""``x86.mtrr`` against real KVM: random writes are accepted, refused and read back alike.

IA32_PAT is left out: KVM_SET_MSRS is known to be laxer about it on some hosts.
"""

import random
from pathlib import Path

import pytest

from helpers import kvm_msrs
from helpers.recording import missing
from mtrrzap.x86 import msr as m
from mtrrzap.x86.mtrr import Mtrrs, broken_rule

WIDTHS = (36, 39, 40, 46, 52)
WRITES = 125_000 // len(WIDTHS)
HOLES = (0x210, 0x24F, 0x251, 0x257, 0x25A, 0x267, 0x270, 0x276, 0x2A0, 0x2FE)


@pytest.fixture(scope="module", autouse=True)
def _kvm() -> None:
    """A machine without KVM is no mistake, not even in CI; one whose KVM does not work is."""
    if (why := kvm_msrs.missing()) is None:
        return
    if Path("/dev/kvm").exists():
        missing(f"no usable KVM; {why}")
    pytest.skip(f"needs a usable KVM; {why}")


def random_write(rng: random.Random, width: int) -> tuple[int, int]:
    """Return an MSR and a value: mostly near the edge between valid and not."""
    msr = rng.choice((*m.VARIABLE, *m.FIXED_INDEX, m.DEF_TYPE, m.DEF_TYPE, m.MTRRCAP, *HOLES))
    types = (0, 1, 4, 5, 6) if rng.random() < 0.7 else tuple(range(9))
    value = rng.choice(
        (
            0,
            rng.getrandbits(64),
            rng.getrandbits(width) & ~0xFFF | rng.choice(types),
            rng.getrandbits(width) & ~0xFFF | rng.choice((0, 0x800)),
            (1 << width) >> rng.randrange(2) | rng.choice((0, 6, 0x800)),
            rng.choice((0, 0x400, 0x800, 0xC00, 0x100)) | rng.choice(types),
            int.from_bytes(rng.choices(types, k=8), "little"),
        )
    )
    return msr, value


@pytest.mark.parametrize("width", WIDTHS)
def test_writes_on_kvm(width: int) -> None:
    rng = random.Random(width)
    model = Mtrrs(width)
    done = {True: 0, False: 0}
    with kvm_msrs.vcpu() as real:
        real.set_maxphyaddr(width)
        for _ in range(WRITES):
            msr, value = random_write(rng, width)
            accepted = real.write(msr, value)
            done[accepted] += 1
            rule = broken_rule(msr, value, width)
            assert accepted == (rule is None), f"{value:#x} to {msr:#x}: {rule}"
            model = model.write(msr, value) if accepted else model
            if msr in m.MTRR_MSRS:
                assert real.read(msr) == model.read(msr)
        for msr in sorted(m.MTRR_MSRS | {m.MTRRCAP}):
            assert real.read(msr) == model.read(msr)
    assert sum(done.values()) == WRITES
    assert min(done.values()) > WRITES // 4, f"one-sided: {done}"
