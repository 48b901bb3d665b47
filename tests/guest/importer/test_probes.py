"""Kprobes on a real kernel: what user space wrote, and what the kernel zapped."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.captures import capture, imported, line, text
from mtrrzap.errors import UserError
from mtrrzap.gfn import EVERYTHING, Range
from mtrrzap.guest import tabular
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.measured_zaps import Dma, KernelZap, KernelZaps
from mtrrzap.guest.trace import Trace, dumps
from mtrrzap.guest.trace_reader import parse
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.study.kernel_zaps import agreement

BOOTS = {"kprobes-seabios": (14, 112), "kprobes-ovmf": (24, 112)}
"""Calls of kvm_zap_gfn_range, and writes by user space."""
HOST = Host(ept=False)


def again(trace: Trace) -> Trace:
    return parse(dumps(trace).splitlines(keepends=True), "again")


@pytest.mark.parametrize("name", BOOTS)
def test_the_kernels_zaps_are_those_of_v6_1(name: str) -> None:
    calls, host_writes = BOOTS[name]
    trace = imported(text(name))
    assert trace.zaps is not None
    assert len(trace.zaps.calls) == calls
    assert sum(event.kind is Kind.HOST_WRMSR for event in trace.events) == host_writes
    assert agreement(trace, by_name("v6.1"), HOST) == (calls, 0, None)
    assert all(call.duration_ns for call in trace.zaps.calls)
    assert {call.caller for call in trace.zaps.calls} == {"kvm_mtrr_set_msr"}


@pytest.mark.parametrize("name", BOOTS)
def test_a_wrong_policy_differs_at_an_event(name: str) -> None:
    found = agreement(imported(text(name)), by_name("v6.11"), HOST)
    assert found is not None
    assert found.difference == (
        "event 2 (0 host-wrmsr 0x2ff 0x0): kernel [0x0, 0x400000000), policy nothing"
    )


@pytest.mark.parametrize("name", BOOTS)
def test_the_same_capture_without_kprobes(name: str) -> None:
    """It says what it cannot know, and has the guest's MTRR writes all the same."""
    lines = text(name).splitlines(keepends=True)
    bare = imported(b"".join(each for each in lines if b": (" not in each))
    assert bare.zaps is None
    assert bare.incomplete is not None
    assert "no CR0 access" in bare.incomplete
    assert any("through ioctls" in note for note in bare.header.notes)
    probed = imported(text(name))
    for trace in (bare, probed):
        writes = [e for e in trace.events if e.kind is Kind.WRMSR]
        assert len(writes) == {"kprobes-seabios": 71, "kprobes-ovmf": 144}[name]
    assert not any("through ioctls" in note for note in probed.header.notes)


def with_addresses(data: bytes) -> bytes:
    """As trace-cmd and perf print kprobes: an address for the function."""
    data = data.replace(b" <- kvm_", b" <- ffffffffc0a1_")
    found = []
    for each in data.splitlines(keepends=True):
        head, mark, rest = each.partition(b": (")
        if mark:
            where, _, behind = rest.partition(b") ")
            back = b" <- ffffffffc0a10000" if b"<-" in where else b""
            each = head + b": (ffffffffc0a1b2c3" + back + b") " + (behind or b"\n")
        found.append(each)
    return b"".join(found)


@pytest.mark.parametrize("name", BOOTS)
def test_probes_that_are_told_by_their_names_alone(name: str) -> None:
    assert imported(with_addresses(text(name))).events == imported(text(name)).events


PROBED = {
    "setmsr": "(kvm_set_msr_common+0x0/0xf80 [kvm]) vcpu={} host={} index=0x2ff data=0xc06",
    "mtrr": "(kvm_mtrr_set_msr+0x0/0x320 [kvm]) vcpu={} msr=0x2ff data=0xc06",
    "mtrrret": "(__kvm_set_msr+0x91/0x1e0 [kvm] <- kvm_mtrr_set_msr) ret={}",
    "zap": "(kvm_zap_gfn_range+0x0/0x100 [kvm]) start=0x0 end=0xfffffffffffff",
    "zapret": "(kvm_mtrr_set_msr+0xd4/0x320 [kvm] <- kvm_zap_gfn_range)",
    "cr0": "(kvm_post_set_cr0+0x0/0xa0 [kvm]) vcpu={} old={:#x} new={:#x}",
    "reset": "(kvm_vcpu_reset+0x0/0x5b0 [kvm]) vcpu={} init={}",
    "sregs": "(kvm_arch_vcpu_ioctl_set_sregs+0x0/0x90 [kvm]) vcpu={} cr0={:#x}",
    "reg": "(kvm_arch_register_noncoherent_dma+0x0/0x20 [kvm]) kvm=0xffffc900005d1000",
    "unreg": "(kvm_arch_unregister_noncoherent_dma+0x0/0x20 [kvm]) kvm=0xffffc900005d1000",
}


def probe(name: str, *values: int, us: int = 0, thread: str = "CPU 0/KVM", tid: int = 100) -> bytes:
    return line(f"{name}: {PROBED[name].format(*values)}", name=thread, tid=tid, us=us)


CREATED = probe("reset", 0, 0) + probe("reset", 1, 0, thread="CPU 1/KVM", tid=101)


def kinds(trace: Trace) -> list[tuple[int, str, int]]:
    return [(event.vcpu, event.kind.value, event.value) for event in trace.events]


def test_a_write_by_another_thread_of_user_space() -> None:
    """The kprobe's argument names the vCPU; qemu's main thread is none."""
    qemu = {"thread": "qemu-system-x86", "tid": 90}
    data = CREATED + probe("setmsr", 1, 1, us=5, **qemu) + probe("mtrr", 1, us=6, **qemu)  # type: ignore[arg-type]
    data += probe("mtrrret", 0, us=7, **qemu)  # type: ignore[arg-type]
    found = capture(data)
    assert found.vms[0].vcpus == {100: 0, 101: 1}
    trace = imported(data)
    assert kinds(trace)[2:] == [(1, "host-wrmsr", 0xC06)]
    assert trace.zaps is None


def test_writes_that_were_refused() -> None:
    host = probe("setmsr", 0, 1) + probe("mtrr", 0) + probe("mtrrret", 1)
    guest = probe("setmsr", 0, 0) + probe("mtrr", 0) + probe("mtrrret", 1)
    told = line("kvm_msr: msr_write 2ff = 0xc06 (#GP)")
    trace = imported(CREATED + host + guest + told)
    assert trace.events[2:] == (Event(0, Kind.WRMSR, 0x2FF, 0xC06, True, 0),)
    assert any(note.startswith("1 writes by user space") for note in trace.header.notes)


def test_cr0_by_both_events_counts_once() -> None:
    both = line("kvm_cr: cr_write 0 = 0x40000023") + probe("cr0", 0, 0x60000010, 0x40000033)
    trace = imported(CREATED + both + probe("cr0", 0, 0x40000033, 0x33))
    assert kinds(trace)[2:] == [(0, "cr0", 0x40000023), (0, "cr0", 0x33)]


def test_sregs_and_init() -> None:
    trace = imported(
        CREATED
        + probe("cr0", 0, 0x60000010, 0x11)
        + probe("reset", 1, 1)
        + line("kvm_apic_accept_irq: apicid 1 vec 0 (INIT|edge)")
        + probe("sregs", 0, 0x60000010)
        + probe("sregs", 0, 0x60000010)
    )
    assert kinds(trace)[2:] == [(0, "cr0", 0x11), (1, "init", 0), (0, "held-cr0", 0x60000010)]


def test_a_zap_of_a_cd_toggle_with_its_leaves() -> None:
    spte = "kvm_tdp_mmu_spte_changed: as id 0 gfn {:x} level 1 old_spte {:x} new_spte 0"
    trace = imported(
        CREATED
        + probe("cr0", 0, 0x60000010, 0x11, us=10)
        + probe("zap", us=11)
        + line(spte.format(1, 7))
        + line(spte.format(2, 0))
        + line(spte.format(3, 7))
        + probe("zapret", us=14)
    )
    assert trace.zaps == KernelZaps((KernelZap(2, 0, EVERYTHING, 3000, 2, ""),))
    found = agreement(trace, by_name("v6.1"), HOST)
    assert found is not None
    assert found.difference is not None
    assert found.difference.startswith("event 2 (0 cr0 0x11): kernel [0x0, ")


def test_a_zap_is_told_by_kvm_msr_where_mtrr_set_msr_is_not_probed() -> None:
    trace = imported(
        CREATED
        + probe("zap", us=1)
        + probe("zapret", us=2)
        + line("kvm_msr: msr_write 2ff = 0xc06", us=3)
    )
    assert trace.zaps is not None
    assert [call.event for call in trace.zaps.calls] == [2]


def test_nothing_is_asked_for_without_noncoherent_dma() -> None:
    write = probe("setmsr", 0, 0) + probe("mtrr", 0) + probe("mtrrret", 0)
    zapped = probe("setmsr", 0, 0) + probe("mtrr", 0) + probe("zap") + probe("zapret")
    data = CREATED + write + probe("reg") + zapped + probe("mtrrret", 0) + probe("unreg") + write
    trace = imported(data)
    assert trace.zaps is not None
    assert trace.zaps.dma == (Dma(3, True), Dma(4, False))
    assert agreement(trace, by_name("v6.1"), HOST) == (1, 0, None)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (probe("setmsr", 90000, 1), "offset of vcpu_id"),
        (line("zap: (kvm_zap_gfn_range+0x0/0x100 [kvm]) start=0x0"), "without end="),
        (line("zap: (kvm_zap_gfn_range+0x0/0x100 [kvm]) start=zero end=0x1"), "malformed kprobe"),
    ],
)
def test_errors_name_the_line(bad: bytes, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        capture(CREATED + bad)
    assert caught.value.place == "capture:3"


numbers = st.none() | st.integers(0, 10**15)
zaps = st.builds(
    KernelZaps,
    st.lists(
        st.builds(
            KernelZap,
            st.none() | st.integers(0, 3),
            st.none() | st.integers(0, 1),
            st.builds(Range, st.integers(0, 1 << 52), st.integers(0, 1 << 52)),
            numbers,
            numbers,
            st.sampled_from(("", "kvm_mtrr_set_msr")),
        ),
        max_size=4,
    ).map(tuple),
    st.lists(st.builds(Dma, st.integers(0, 4), st.booleans()), max_size=3).map(tuple),
)


@settings(max_examples=50, deadline=None)
@given(zaps)
def test_zaps_come_back_from_every_file(found: KernelZaps) -> None:
    short = imported(
        CREATED + probe("cr0", 0, 0x60000010, 0x11) + probe("cr0", 1, 0x60000010, 0x11)
    )
    trace = replace(short, zaps=found)
    assert again(trace) == trace
    assert tabular.read_csv(tabular.csv_lines(trace), "again") == trace
    assert dumps(trace).startswith("mtrrzap-trace 2\n")
    assert dumps(replace(trace, zaps=None)).startswith("mtrrzap-trace 1\n")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["zaps 1", "zap 9 0 0x0 0x1 - - -"], "unknown event or vCPU"),
        (["zaps 1", "zap 0 7 0x0 0x1 - - -"], "unknown event or vCPU"),
        (["zaps 1", "zap 0 0 0x0 - - -"], "malformed zap"),
        (["zaps many"], "malformed zaps"),
        (["zaps 0", "zaps 0"], "a second section"),
        (["zaps 0", "0 reset"], "behind the zaps"),
    ],
)
def test_a_damaged_section(lines: list[str], problem: str) -> None:
    whole = dumps(replace(imported(CREATED), zaps=KernelZaps()))
    damaged = whole.replace("zaps 0", "\n".join(lines)).splitlines(keepends=True)
    with pytest.raises(UserError, match=problem):
        parse(damaged, "t")
