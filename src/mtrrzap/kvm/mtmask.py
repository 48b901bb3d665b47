"""The memory type of a new EPT leaf: ``vmx_get_mt_mask`` in arch/x86/kvm/vmx/vmx.c.

It tests in this order: host MMIO; no non-coherent DMA; CR0.CD (until v6.10); the guest's MTRRs
(until v6.10). The fields of ``Policy`` have the differences between versions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mtrrzap.gfn import ALL_GFNS, PAGE_SHIFT
from mtrrzap.kvm.lookup import consistent, decided, edges, variable_ranges
from mtrrzap.kvm.policy import Policy
from mtrrzap.kvm.replay import Host
from mtrrzap.kvm.vcpu import Vcpu
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType
from mtrrzap.x86.physmap import stretches

BEYOND = ALL_GFNS.end
"""The end of the last stretch of a map: no guest has this frame."""


class TypedRange(NamedTuple):
    """Guest frames ``[start, end)`` whose new leaves get one type; None: NPT, which has none."""

    start: int
    end: int
    type: EptType | None


@dataclass(frozen=True, slots=True)
class MtMask:
    """The rule for one policy on one host."""

    policy: Policy
    host: Host

    @property
    def honours(self) -> bool:
        """Guest MTRRs and CR0.CD may decide types: EPT, non-coherent DMA, and before v6.11."""
        return self.host.ept and self.host.noncoherent_dma and self.policy.honours_mtrrs

    def whole(self, vcpu: Vcpu) -> TypedRange | None:
        """Return the one stretch of all RAM if the MTRRs do not matter to this vCPU, else None."""
        if not self.host.ept:
            return TypedRange(0, BEYOND, None)
        if not self.host.noncoherent_dma:
            # The quirk exists in kernels only that do not honour the guest's MTRRs.
            ignored = self.policy.honours_mtrrs or self.host.quirk_ignore_guest_pat
            return TypedRange(0, BEYOND, EptType(MemType.WB, ipat=ignored))
        if vcpu.cd:
            kind = self.policy.cd_type(quirk=self.host.quirk_cd_nw_cleared)
            if kind is not None:
                return TypedRange(0, BEYOND, kind)
        return None if self.honours else TypedRange(0, BEYOND, EptType(MemType.WB))

    def stretches(self, vcpu: Vcpu, *, host_mmio: bool = False) -> Iterator[TypedRange]:
        """Yield the types that this vCPU's faults install, ascending, 0 to ``BEYOND``."""
        if host_mmio and self.host.ept:
            yield TypedRange(0, BEYOND, EptType(MemType.UC))
            return
        one = self.whole(vcpu)
        if one is not None:
            yield one
            return
        mtrrs, ranges = vcpu.mtrrs, variable_ranges(vcpu.mtrrs)
        has_mtrr = self.host.guest_has_mtrr

        def at(page: int) -> MemType:
            return decided(mtrrs, ranges, page, guest_has_mtrr=has_mtrr)[0]

        for start, end, found in stretches(sorted(edges(mtrrs)), at, BEYOND << PAGE_SHIFT):
            yield TypedRange(start >> PAGE_SHIFT, end >> PAGE_SHIFT, EptType(found))

    def at(self, vcpu: Vcpu, gfn: int, *, host_mmio: bool = False) -> EptType | None:
        """Return the type of a leaf that this vCPU's fault installs at one frame."""
        stretches = self.stretches(vcpu, host_mmio=host_mmio)
        return next(s.type for s in stretches if gfn < s.end)


class HugePages:
    """Which huge pages a vCPU's MTRRs allow (``kvm_tdp_page_fault``'s clamp)."""

    def __init__(self, mask: MtMask, vcpu: Vcpu) -> None:
        self._mtrrs = vcpu.mtrrs if mask.honours else None
        self._ranges = variable_ranges(vcpu.mtrrs) if mask.honours else []
        self.edges: frozenset[int] = (
            frozenset(edge >> PAGE_SHIFT for edge in edges(vcpu.mtrrs))
            if mask.honours
            else frozenset()
        )
        """Frames at which the answer may change."""

    def allowed(self, gfn: int, frames: int) -> bool:
        """Tell if one page may cover ``[gfn, gfn + frames)``."""
        if self._mtrrs is None:
            return True
        start, end = gfn << PAGE_SHIFT, gfn + frames << PAGE_SHIFT
        return consistent(self._mtrrs, start, end, self._ranges)
