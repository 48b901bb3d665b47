"""What a guest really gets under EPT: MTRR type, PAT type and IPAT, by kernel version and quirk."""

from collections.abc import Iterator
from typing import NamedTuple

from mtrrzap.gfn import PAGE_SHIFT
from mtrrzap.kvm.mtmask import MtMask
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86 import cr0
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.mtrr import Mtrrs

PAT_TYPES = (MemType.WB, MemType.WT, MemType.WP, MemType.WC, MemType.UC_MINUS, MemType.UC)
"""The types that an entry of IA32_PAT may have."""
NPT = "AMD's NPT: KVM sets no type there; the guest's PAT combines with the host's MTRRs"


class EptCase(NamedTuple):
    """A kernel and a configuration of a VM."""

    kernel: str
    policy: str
    says: str
    host: Host
    cd: bool = False
    mmio: bool = False


class EptRow(NamedTuple):
    """A stretch ``[start, end)`` of guest-physical addresses in bytes, in one case."""

    kernel: str
    case: str
    start: int
    end: int
    ept: EptType

    def effective(self) -> dict[MemType, MemType]:
        """Return the effective type by the type of the guest's PAT entry."""
        return {kind: self.ept.with_pat(kind) for kind in PAT_TYPES}


_COHERENT = Host(noncoherent_dma=False)
_CD_QUIRK_OFF = Host(quirk_cd_nw_cleared=False)


def _honouring(kernel: str, policy: str) -> Iterator[EptCase]:
    yield EptCase(kernel, policy, "coherent DMA", _COHERENT)
    yield EptCase(kernel, policy, "non-coherent DMA", Host())
    yield EptCase(kernel, policy, "non-coherent DMA, CR0.CD = 1", Host(), cd=True)
    says = "non-coherent DMA, CR0.CD = 1, CD_NW_CLEARED off"
    yield EptCase(kernel, policy, says, _CD_QUIRK_OFF, cd=True)


CASES = (
    *_honouring("v4.2 to v6.6", "v6.1"),
    *_honouring("v6.7 to v6.10", "v6.7"),
    EptCase("v6.11 on", "v6.11", "coherent DMA", _COHERENT),
    EptCase("v6.11 on", "v6.11", "non-coherent DMA", Host()),
    EptCase(
        "since c9c1e20b4c7d",
        "v6.11",
        "coherent DMA, IGNORE_GUEST_PAT off",
        Host(noncoherent_dma=False, quirk_ignore_guest_pat=False),
    ),
    EptCase("all", "v6.11", "a host device's memory", Host(), mmio=True),
)


def rows(mtrrs: Mtrrs) -> Iterator[EptRow]:
    """Yield every case's stretches, ascending; neighbours differ in the type of their entries."""
    top = 1 << mtrrs.maxphyaddr
    for case in CASES:
        mask = MtMask(by_name(case.policy), case.host)
        vcpu = Vcpu(mtrrs, cr0.CD_NW if case.cd else 0)
        for found in mask.stretches(vcpu, host_mmio=case.mmio):
            start, end = found.start << PAGE_SHIFT, min(found.end << PAGE_SHIFT, top)
            if start < end and found.type is not None:
                yield EptRow(case.kernel, case.says, start, end, found.type)
