"""One line in every form that a reader prints, and thread names with all their oddities."""

import pytest

from mtrrzap.guest.importer.event_text import EventLine, parse, vcpu_of_body, vcpu_of_name

BODY = "cr_write 0 = 0x11"


def line(text: str) -> EventLine | None:
    data = text.encode()
    return parse(data, 0, len(data))


@pytest.mark.parametrize(
    ("text", "name", "tid", "tgid", "time_ns"),
    [
        (
            "       CPU 0/KVM-151   [001]    26.933495: kvm_cr:  ",
            "CPU 0/KVM",
            151,
            None,
            26933495000,
        ),
        ("       CPU 0/KVM-151   [001] d..1.  5.5: kvm_cr:  ", "CPU 0/KVM", 151, None, 5500000000),
        ("       CPU 0/KVM-151     [001] .N.. 0.000001: kvm_cr: ", "CPU 0/KVM", 151, None, 1000),
        (
            "CPU 12/KVM-7 (    146) [001] ..... 1.000000001: kvm_cr: ",
            "CPU 12/KVM",
            7,
            146,
            10**9 + 1,
        ),
        ("CPU 12/KVM-7 (-------) [001] ..... 1.0: kvm_cr: ", "CPU 12/KVM", 7, None, 10**9),
        ("           <...>-264     [001] ..... 1.0: kvm_cr: ", None, 264, None, 10**9),
        ("       CPU 0/KVM   151 [001]    2.0:  kvm:kvm_cr: ", "CPU 0/KVM", 151, None, 2 * 10**9),
        ("       CPU 0/KVM   146/151   [001] 2.0: kvm:kvm_cr: ", "CPU 0/KVM", 151, 146, 2 * 10**9),
        ("       CPU 0/KVM   151  2.0:          1 kvm:kvm_cr: ", "CPU 0/KVM", 151, None, 2 * 10**9),
        ("            :151   151 [001]    2.0:  kvm:kvm_cr: ", None, 151, None, 2 * 10**9),
        ("      my-vm 3-x-12 [001] ..... 1.0: kvm_cr: ", "my-vm 3-x", 12, None, 10**9),
        ("      a 1-2 3-12 [001] ..... 1.0: kvm_cr: ", "a 1-2 3", 12, None, 10**9),
        ("       CPU 0/KVM-151   [001] ..... 26933495: kvm_cr: ", "CPU 0/KVM", 151, None, None),
    ],
)
def test_forms(
    text: str, name: str | None, tid: int, tgid: int | None, time_ns: int | None
) -> None:
    assert line(text + BODY) == EventLine(
        name.encode() if name else None, tid, tgid, time_ns, b"kvm_cr", BODY.encode()
    )


@pytest.mark.parametrize(
    "text",
    [
        "# tracer: nop",
        "cpus=2",
        "CPU:0 [LOST 123 EVENTS]",
        "    bash-9 [001] ..... 1.0: sched_switch: prev_comm=kvm_cr: cr_write 0 = 0x11",
        "CPU 0/KVM-151 [001] ..... 1.0.0: kvm_cr: cr_write 0 = 0x11",
    ],
)
def test_lines_that_are_no_event(text: str) -> None:
    assert line(text) is None


def test_vcpu_numbers() -> None:
    names = (b"CPU 0/KVM", b"CPU 100/KVM", b"vcpu3", b"fc_vcpu 7", b"crosvm_vcpu2", b"CPU 4096/KVM")
    assert [vcpu_of_name(name) for name in names] == [0, 100, 3, 7, 2, None]
    assert [vcpu_of_name(name) for name in (None, b"qemu-system-x86", b"CPU 1/TCG")] == [None] * 3
    bodies = (
        b"vcpu 0 rip 0x1",
        b"vcpu 2, rip 0x1",
        b"vcpu_id=3 rip=0x1",
        b"reason EXIT_MSR rip 0x1",
    )
    assert [vcpu_of_body(body) for body in bodies] == [0, 2, 3, None]
