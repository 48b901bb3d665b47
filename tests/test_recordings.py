"""The recordings that are shipped: whole, and what the guest itself saw agrees with them."""

import re
from importlib.resources import files

import pytest

from mtrrzap.guest.event import Kind
from mtrrzap.guest.trace import Trace, load

RECORDINGS = files("mtrrzap.data") / "recordings"
NAMES = ["seabios-8", "seabios-16", "ovmf-8", "ovmf-16"]
ADDRESS_BITS = (1 << 40) - 1


def read(name: str) -> Trace:
    text = (RECORDINGS / f"{name}.trace").read_text(encoding="utf-8")
    return load(text.splitlines(keepends=True), name)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_complete(name: str) -> None:
    trace = read(name)
    header = trace.header
    assert trace.incomplete is None
    assert f"{header.family.lower()}-{header.vcpus}" == name
    assert header.memory == 16 << 30
    assert header.maxphyaddr == 40
    assert {event.vcpu for event in trace.events} == set(range(header.vcpus))


@pytest.mark.parametrize("name", NAMES)
def test_the_guest_saw_the_same(name: str) -> None:
    """/proc/mtrr, printed by the guest, has the variable ranges that vCPU 0 wrote last."""
    written = {e.msr: e.value for e in read(name).events if e.vcpu == 0 and e.kind is Kind.WRMSR}
    recorded = []
    for base, mask in ((written[msr], written[msr + 1]) for msr in range(0x200, 0x210, 2)):
        if mask & 0x800:
            assert base & 0xFF == 0
            recorded.append((base, (~mask & ADDRESS_BITS & ~0xFFF) + 0x1000))
    seen = [
        (int(match[1], 16), int(match[2]) << 20)
        for match in re.finditer(
            r"base=(0x\w+) .* size= *(\d+)MB, count=1: uncachable",
            (RECORDINGS / f"{name}.proc-mtrr").read_text(encoding="utf-8"),
        )
    ]
    assert seen == recorded
    assert len(seen) >= 1
