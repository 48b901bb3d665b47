"""A kernel's own function for EPT types: put where leaves are made, and the types that it says."""

import json
from pathlib import Path

import pytest

from helpers.cli import Run
from mtrrzap.errors import UserError
from mtrrzap.kernel import build, ept_types, image
from mtrrzap.kernel.tracefs import FUNCTION

LIMIT = 900
"""Seconds: for a machine on which much else runs."""
VMX = """\
u8 vmx_get_mt_mask(struct kvm_vcpu *vcpu, gfn_t gfn, bool is_mmio)
{
	return 6 << VMX_EPT_MT_EPTE_SHIFT;
}
"""
SPTE = """\
bool make_spte(struct kvm_vcpu *vcpu, gfn_t gfn, kvm_pfn_t pfn, u64 *new_spte)
{
	u64 spte = SPTE_MMU_PRESENT_MASK;

	if (shadow_memtype_mask)
		spte |= static_call(kvm_x86_get_mt_mask)(vcpu, gfn, kvm_is_mmio_pfn(pfn));
	*new_spte = spte;
	return true;
}
"""
MMU = "\tif (shadow_memtype_mask && kvm_arch_has_noncoherent_dma(vcpu->kvm)) {\n"
TREE = dict(zip(ept_types.FILES, (VMX, SPTE, MMU), strict=True))


def test_each_leaf_is_traced_and_its_entry_is_left_alone() -> None:
    changed = ept_types.traced(TREE)
    _, spte, mmu = ept_types.FILES
    assert changed.keys() == {spte, mmu}
    lines = changed[spte].splitlines()
    call = f"\t{FUNCTION}(gfn, vmx_get_mt_mask(vcpu, gfn, kvm_is_mmio_pfn(pfn)));"
    assert lines.count(call) == 1
    assert lines[lines.index(call) + 1] == "\tif (shadow_memtype_mask)"
    assert [line for line in SPTE.splitlines() if line not in lines] == []
    assert lines[0] == f"static {VMX.splitlines()[0]}"
    assert changed[mmu] == "\tif (kvm_arch_has_noncoherent_dma(vcpu->kvm)) {\n"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (ept_types.FILES[0], r"function vmx_get_mt_mask\(\)"),
        (ept_types.FILES[1], r"function make_spte\(\)"),
        (ept_types.FILES[2], "once: shadow_memtype_mask"),
    ],
)
def test_a_tree_that_looks_otherwise(path: str, says: str) -> None:
    with pytest.raises(UserError, match=f"{path}: not found: {says}"):
        ept_types.traced(TREE | {path: ""})
    other = SPTE.replace("if (shadow_memtype_mask)", "if (tdp_enabled)")
    with pytest.raises(UserError, match=r"in make_spte\(\): if \(shadow_memtype_mask\)"):
        ept_types.traced(TREE | {ept_types.FILES[1]: other})


@pytest.mark.timeout(LIMIT)
def test_every_field_of_v6_1_is_judged(
    run: Run, kernel: image.Kernel, source: Path, tmp_path: Path
) -> None:
    """And Linux keeps, on SeaBIOS' recording, the stale leaves that the audit finds."""
    where = ("--kernel", str(kernel.image))
    (tmp_path / build.RULE).write_text("of an older build")
    made = ("--source", str(source), "-o", str(tmp_path), "--force")
    assert run("kernel", "build", *where, *made).status == 0
    assert not (tmp_path / build.RULE).exists()
    options = ("--modules", str(tmp_path), "--random=300", f"--timeout={LIMIT}", "--json")
    ran = run("kernel", "compare", "seabios-8", *where, *options)
    assert ran.status == 0, ran
    data = json.loads(ran.out)
    assert data["not judged"] == {}
    controls = {control["name"]: control for control in data["controls"]}
    assert all(control["passed"] for control in controls.values())
    wrong = {name.split()[1] for name in controls if name.startswith("wrong: ")}
    assert wrong >= {"cd_type_with_quirk", "honours_mtrrs", "protocol"}
    stale = controls["stale types, seabios-8"]["what"]
    assert stale.startswith("768 leaves outlived their EPT type, after 24 events; 0 of them")
