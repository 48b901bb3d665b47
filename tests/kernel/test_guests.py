"""A whole guest's boot out of ftrace's lines, as Linux 6.1 wrote them."""

import pytest

from mtrrzap.errors import UserError
from mtrrzap.guest.busybox import BEGIN, END
from mtrrzap.guest.event import Event, Kind
from mtrrzap.kernel import guests
from mtrrzap.kernel.judge import verdict
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host

TWO_VCPUS_AT_ONCE = """\
       CPU 0/KVM-115     [000] .N...    10.572960: reset: (kvm_vcpu_reset+0x0/0x5b0 [kvm]) init=0
       CPU 1/KVM-116     [000] .....    10.616674: reset: (kvm_vcpu_reset+0x0/0x5b0 [kvm]) init=0
       CPU 0/KVM-115     [000] .....    14.841009: sregs: (__set_sregs_common.constprop.0+0x0/0x5 \
[kvm]) cr0=0x60000010
       CPU 0/KVM-115     [000] .....    14.854217: msr: (kvm_set_msr_common+0x0/0xf80 [kvm]) \
host=1 index=0x2ff
       CPU 0/KVM-115     [000] .....    14.854526: mtrr: (kvm_mtrr_set_msr+0x0/0x320 [kvm]) \
msr=0x2ff data=0x0
       CPU 0/KVM-115     [000] .....    14.854651: zap: (kvm_zap_gfn_range+0x0/0x100 [kvm]) \
start=0x0 end=0xfffffffffffff by=kvm_mtrr_set_msr+0xd4/0x320 [kvm]
       CPU 1/KVM-116     [000] .....    14.854700: msr: (kvm_set_msr_common+0x0/0xf80 [kvm]) \
host=0 index=0x2ff
       CPU 1/KVM-116     [000] .....    14.854800: mtrr: (kvm_mtrr_set_msr+0x0/0x320 [kvm]) \
msr=0x2ff data=0xc02
       CPU 1/KVM-116     [000] .....    14.854900: written: (__kvm_set_msr+0x91/0x1e0 [kvm] <- \
kvm_mtrr_set_msr) ret=1
       CPU 0/KVM-115     [000] .....    14.855057: zapped: (kvm_mtrr_set_msr+0xd4/0x320 [kvm] <- \
kvm_zap_gfn_range)
       CPU 0/KVM-115     [000] .....    14.855269: written: (__kvm_set_msr+0x91/0x1e0 [kvm] <- \
kvm_mtrr_set_msr) ret=0
       CPU 1/KVM-116     [000] .....    14.856000: cr0: (kvm_post_set_cr0+0x0/0xa0 [kvm]) \
old=0x60000010 new=0x11
       CPU 1/KVM-116     [000] .....    14.857000: reset: (kvm_vcpu_reset+0x0/0x5b0 [kvm]) init=1
"""
ENDED = f"{BEGIN}\nreg00: x\n{END}\n"


def _record(trace: str, status: int = 0, output: str = ENDED) -> guests.GuestRecord:
    return guests.GuestRecord(trace, status, output, "6.1.0", "NPT")


def test_each_thread_is_a_vcpu() -> None:
    seen = guests.seen(_record(TWO_VCPUS_AT_ONCE), 2)
    assert seen.trace.events == (
        Event(0, Kind.RESET),
        Event(1, Kind.RESET),
        Event(0, Kind.HELD_CR0, 0, 0x60000010),
        Event(0, Kind.HOST_WRMSR, 0x2FF, 0),
        Event(1, Kind.WRMSR, 0x2FF, 0xC02),
        Event(1, Kind.CR0, 0, 0x11),
        Event(1, Kind.INIT),
    )
    assert seen.refused == "0000100"
    (call,) = seen.calls
    assert (call.event, call.start, call.end) == (3, 0, (1 << 52) - 1)
    assert call.seconds == pytest.approx(406e-6)
    found = verdict(seen.trace, seen.calls, seen.refused, by_name("v6.1"), Host(ept=False))
    assert (found.calls, found.requests, found.refused, found.differences) == (1, 1, 1, ())


@pytest.mark.parametrize(
    ("status", "output"), [(0, "no marker"), (-9, ENDED), (1, "vfio: no such device\n")]
)
def test_a_guest_that_did_not_end(status: int, output: str) -> None:
    with pytest.raises(UserError, match=f"QEMU ended with status {status} and said: "):
        guests.seen(_record("", status, output), 2)
