"""The MTRR writes that QEMU makes on KVM, which TCG does not make: modelled, and said so.

Checked with ``strace -e trace=ioctl`` on QEMU 7.2 with /dev/kvm (docs/record.md): before a vCPU
first runs it gets two KVM_SET_MSRS with all MTRRs, a machine reset gives one more.
"""

FIXED = (0x250, 0x258, 0x259, *range(0x268, 0x270))
VARIABLE = tuple(range(0x200, 0x210))
DEF_TYPE = 0x2FF

PUT: tuple[tuple[int, int], ...] = tuple((msr, 0) for msr in (DEF_TYPE, *FIXED, *VARIABLE))
"""One put as (MSR, value), in QEMU's order; every value is 0 after a reset."""

PUTS_AT_START = 2
PUTS_AT_RESET = 1

DESCRIPTION = (
    "modelled: QEMU on KVM writes all MTRRs of every vCPU, twice before the first KVM_RUN and once "
    "at a machine reset; TCG makes no such writes"
)
