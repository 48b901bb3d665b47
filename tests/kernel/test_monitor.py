"""The monitor on this machine's own KVM, without a VFIO group: refusals, INIT, and the state."""

import re
from pathlib import Path

import pytest

from helpers.live_host import need_kvm
from mtrrzap.kernel.monitor import Machine, Settings
from mtrrzap.kernel.perform import MSRS
from mtrrzap.kernel.program import of
from mtrrzap.kernel.random_events import random_trace
from mtrrzap.kvm.vcpu import power_on, step
from mtrrzap.x86 import cr0


@pytest.fixture(autouse=True)
def kvm() -> None:
    need_kvm()


@pytest.mark.parametrize(("maxphyaddr", "vcpus"), [(36, 2), (39, 1), (40, 4)])
def test_random_events(maxphyaddr: int, vcpus: int) -> None:
    """KVM refuses what the model refuses, and ends in the same state."""
    made = of(random_trace(1, 1500, vcpus, maxphyaddr), 2 << 20)
    states = [power_on(maxphyaddr)] * vcpus
    with Machine(Settings(vcpus, maxphyaddr, memory=2 << 20)) as machine:
        assert machine.coherent
        for number, (event, op) in enumerate(zip(made.trace.events, made.ops, strict=True)):
            states[event.vcpu], rule = step(states[event.vcpu], event)
            if number % 100 == 0:
                machine.touch(event.vcpu)
            assert machine.perform(*op) == (rule is not None), (number, event, rule)
        for number, state in enumerate(states):
            assert machine.registers(number, MSRS) == [
                state.cr0 & (cr0.CD_NW),
                *map(state.mtrrs.read, MSRS),
            ]
        assert machine.lost() == []


def test_init_keeps_cd_and_reaches_every_vcpu() -> None:
    with Machine(Settings(3)) as machine:
        for vcpu in range(3):
            for value, cd_nw in ((0x11, 0), (0x40000011, cr0.CD), (0x60000011, cr0.CD_NW)):
                assert not machine.perform(vcpu, "cr0", 0, value)
                machine.perform(vcpu, "init")
                assert machine.registers(vcpu, ()) == [cd_nw]
                assert not machine.perform(vcpu, "wrmsr", 0x2FF, 6)


def test_every_page_is_the_guests_own() -> None:
    """A zero page would lose its entry at the guest's first write, without a zap of KVM's."""
    size = 2 << 20
    with Machine(Settings(2, memory=size)) as machine:
        address = machine._memory.address
        smaps = Path("/proc/self/smaps").read_text(encoding="ascii")
        dirty = inside = 0
        for line in smaps.splitlines():
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                inside = int(match[1], 16) <= address < int(match[2], 16)
            elif inside and line.startswith("Private_Dirty:"):
                dirty = int(line.split()[1]) << 10
        assert dirty >= size
