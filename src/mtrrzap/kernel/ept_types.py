"""EPT types on a host without EPT: KVM's own function for them, called where a leaf is made.

``vmx_get_mt_mask()`` is part of kvm-intel.ko, and KVM calls it only with EPT. A build copies its
text from the user's tree into kvm.ko. ``make_spte()`` then calls it for each leaf, with the state
of the real vCPU and VM, and passes the value to an empty function, which a probe sees. The entry
itself stays as nested paging needs it. Huge pages are limited as with EPT.
"""

from collections.abc import Mapping

from mtrrzap.emit.patch import File
from mtrrzap.kernel.tracefs import FUNCTION

_VMX, _SPTE, _MMU = (f"arch/x86/kvm/{name}" for name in ("vmx/vmx.c", "mmu/spte.c", "mmu/mmu.c"))
FILES = (_VMX, _SPTE, _MMU)
"""The files of a tree that are read."""
_EMPTY = f"""\
static noinline __noclone void {FUNCTION}(gfn_t gfn, u8 type)
{{
	asm volatile("" : : "r" (gfn), "r" (type));
}}
"""
_IF_EPT = "\tif (shadow_memtype_mask)\n"
_CALL = f"\t{FUNCTION}(gfn, vmx_get_mt_mask(vcpu, gfn, kvm_is_mmio_pfn(pfn)));\n"


def traced(tree: Mapping[str, str]) -> dict[str, str]:
    """Return the files of a tree that change, as they must be. Raises ``UserError``."""
    vmx, spte, mmu = (File(path, tree[path]) for path in FILES)
    ours = vmx.function("vmx_get_mt_mask")
    make = spte.function("make_spte")
    if make.count(_IF_EPT) != 1:
        raise spte.missing(f"in make_spte(): {_IF_EPT.strip()}")
    ours = "static " + ours.removeprefix("static ")
    spte.replace(make, f"{ours}\n{_EMPTY}\n{make.replace(_IF_EPT, _CALL + _IF_EPT)}")
    mmu.replace("shadow_memtype_mask && ", "")
    return {file.path: file.text for file in (spte, mmu)}
