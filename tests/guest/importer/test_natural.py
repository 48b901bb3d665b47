"""Captures that a bpftrace one-liner printed in words of its own."""

from pathlib import Path

import pytest

from helpers.captures import capture, imported, timeless
from mtrrzap.errors import UserError
from mtrrzap.guest.event import Event, Kind
from mtrrzap.guest.importer import Known
from mtrrzap.guest.importer.source import opened

TWO = [Event(0, Kind.CR0, value=0x11), Event(0, Kind.WRMSR, 0x2FF, 0xC06)]


@pytest.mark.parametrize(
    "lines",
    [
        "CPU 0/KVM 151 kvm_cr rw=1 cr=0 val=0x11\n"
        "CPU 0/KVM 151 kvm_msr write=1 ecx=0x2ff data=0xc06\n",
        "tid 151 cpu 1 cr0 write 0x11\ntid 151 cpu 1 msr 0x2ff write 0xc06\n",
        "[151] CR0 <- 0x11\n[151] wrmsr(0x2ff) = 0xc06\n",
        "26930000000 CPU 0/KVM cr_write 0 0x11\n26930000100 CPU 0/KVM wrmsr 2ff c06\n",
        "Attaching 2 probes...\nTracing kvm_msr... Hit Ctrl-C\ntid=1 write cr0 0x11\n"
        "tid=1 write MSR: 0x2ff, value: 0xc06\n\n@[kstack]: 12\n",
    ],
)
def test_words(lines: str) -> None:
    trace = imported(lines.encode())
    assert timeless(trace.events)[1:] == TWO
    assert trace.header.recorder.endswith("from bpftrace text")


@pytest.mark.parametrize(
    ("lines", "place", "problem"),
    [
        ("tid=1 cr0 write 0x11\ntid=1 wrmsr 0x2ff\n", "capture:2", "an access in an unknown form"),
        ("1 2 wrmsr 0x2ff 0xc06\n", "capture:1", "an access in an unknown form"),
        ("tid=1 wrmsr 0x2ff 0xc\n06\n", "capture:2", "an access in an unknown form: '06'"),
        ("tid=1 wrmsr 0x2ff 0\nwrmsr 0x2ff 6\n", "capture:2", "an access in an unknown form"),
        ("wrmsr 0x2ff 0xc06\n", "capture:1", "no thread and no CPU"),
    ],
)
def test_what_is_not_clear_is_named(lines: str, place: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        imported(lines.encode())
    assert caught.value.place == place


def test_events_that_bpftrace_lost() -> None:
    trace = imported(b"tid=1 cr0 write 0x11\ntid=1 wrmsr 0x2ff 0xc06\nLost 12 events\n")
    assert trace.incomplete == "the capture lost 12 events, in 1 place"


def test_exits_and_entries_measure_a_write() -> None:
    lines = (
        "1.000000000 tid=154 cr0 write 0x11\n"
        "1.000001000 tid=154 kvm_exit vcpu_id=3 exit_reason=32 rip=0xfff0\n"
        "1.000002000 tid=154 wrmsr 0x2ff 0xc06\n"
        "1.000009000 tid=154 kvm_entry vcpu_id=3 rip=0xfff2\n"
    )
    found = capture(lines.encode())
    assert found.vms[0].vcpus == {154: 3}
    assert [cost.cost_ns for cost in found.trace(found.vms[0], Known()).costs] == [8000]


def test_delta_times_do_not_order() -> None:
    """perf's --deltatime: by its times, vCPU 1's write would come first."""
    form = "  CPU {0}/KVM   15{0} [001]  0.{1:06}: kvm:kvm_{2}\n"
    lines = (
        form.format(0, 500000, "cr: cr_write 0 = 0x11"),
        form.format(1, 10, "msr: msr_write 2ff = 0xc06"),
        form.format(0, 20, "msr: msr_write 2ff = 0x0"),
    )
    trace = imported("".join(lines).encode())
    assert [(e.vcpu, e.time_ns) for e in trace.events if e.kind is not Kind.RESET] == [
        (0, None),
        (1, None),
        (0, None),
    ]
    assert any("perf's --deltatime" in note for note in trace.header.notes)


def test_utf16(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(
        "CPU 3/KVM-154 [001] ..... 26.930000: kvm_cr: cr_write 0 = 0x11\r\n", encoding="utf-16"
    )
    with opened(path) as found:
        assert b"".join(found.source()).startswith(b"CPU 3/KVM-154 [001]")
