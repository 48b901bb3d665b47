"""Update windows: where they begin and end, and which overlap."""

from helpers.traces import CD, CLEAR, RESET, cr0, trace, wrmsr
from mtrrzap.kvm.windows import Window, windows


def test_windows_of_two_vcpus() -> None:
    events = (
        RESET,  # 0: opens vCPU 0's
        cr0(CLEAR),
        wrmsr(0x250, 0),
        wrmsr(0x2FF, 0xC06),  # 3: closes it
        wrmsr(0x2FF, 0, vcpu=1),  # 4: vCPU 1 still has CD = 1 from RESET
        cr0(CD),  # 5: opens vCPU 0's second
        wrmsr(0x2FF, 0xC06, vcpu=1),
        cr0(CLEAR, vcpu=1),  # 7: closes vCPU 1's
        wrmsr(0x2FF, 0x406),
    )
    assert windows(trace(*events)) == [
        Window(0, 0, 3, cd=True, def_type_writes=1, other_writes=1, others=set()),
        Window(1, 4, 7, cd=True, def_type_writes=2, other_writes=0, others={0}),
        Window(0, 5, None, cd=True, def_type_writes=1, other_writes=0, others={1}),
    ]


def test_seabios_disables_the_mtrrs_without_cd() -> None:
    events = (RESET, cr0(CLEAR), wrmsr(0x2FF, 0xC06), wrmsr(0x2FF, 0), wrmsr(0x2FF, 0xC06))
    assert windows(trace(*events))[1] == Window(0, 3, 4, cd=False, def_type_writes=2)
