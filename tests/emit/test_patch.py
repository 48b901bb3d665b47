"""The patch applies, puts each thing where it belongs, and refuses a tree that it does not know."""

import os
import subprocess
from pathlib import Path

import pytest

from helpers.paths import DATA
from mtrrzap.emit.patch import FILES, HOST, MTRR, VMX, X86, X86_H, Mail, edited, patch, read
from mtrrzap.errors import UserError
from mtrrzap.kvm.policy import by_name
from mtrrzap.protocol import PROTOCOLS
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType

TREE = DATA / "emit" / "tree"
MAIL = Mail("Some Body <some@body.example>", "Sun, 29 Nov 2026 07:00:00 +0000", "It holds.")
RULES = {
    "direct": "v6.1",
    "v3": "Base2+9",
    "v4": "Base2+9",
    "v4_patch10": "+9+10",
    "sketch": "Base2",
    "review": "review",
    "ticket": "ticket",
}


def texts() -> dict[str, str]:
    return read(lambda path: (TREE / path).read_text(encoding="utf-8"))


def git(directory: Path, *arguments: str, given: str | None = None) -> str:
    names = {
        f"GIT_{role}_{what}": "t@t"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    command = ["git", "-C", str(directory), *arguments]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, env=os.environ | names
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def applied(directory: Path, mail: str) -> dict[str, str]:
    """Apply a mail as a maintainer does, and return the files."""
    for path, text in texts().items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text, encoding="utf-8")
    git(directory, "init", "-q")
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", "base")
    git(directory, "am", "-q", given=mail)
    assert git(directory, "log", "-1", "--format=%an <%ae>").strip() == MAIL.author
    return {path: (directory / path).read_text(encoding="utf-8") for path in FILES}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_it_applies(name: str, tmp_path: Path) -> None:
    mail = patch(PROTOCOLS[name], by_name(RULES[name]), texts(), MAIL)
    files = applied(tmp_path, mail)
    entry = "kvm_mtrr_zap_gfn_ranges(vcpu->kvm, &range, 1);"
    if name in ("v4", "v3"):
        entry = entry.replace("ranges(", "range(")
    if name == "v4_patch10":
        entry = entry.replace("kvm_mtrr_zap_gfn_ranges", "kvm_zap_gfn_range_on_cd_toggle")
    update = files[MTRR].index("static void update_mtrr(")
    assert files[MTRR].index(entry) > update
    assert files[MTRR].index("static void last(void)") > files[MTRR].index(
        "void kvm_mtrr_cr0_cd_changed(struct kvm_vcpu *vcpu)\n{"
    )
    assert files[MTRR].count("if (!kvm_mmu_honors_guest_mtrrs(vcpu->kvm))") == 1
    assert "\tif ((cr0 ^ old_cr0) & X86_CR0_CD)\n\t\tkvm_mtrr_cr0_cd_changed(vcpu);\n" in files[X86]
    shares = name != "direct"
    assert ("\tstruct kvm_mtrr_zap mtrr_zap;\n" in files[HOST]) == shares
    assert ("\tkvm_mtrr_zap_init(kvm);\n" in files[X86]) == shares
    assert ("void kvm_mtrr_zap_init(struct kvm *kvm);\n" in files[X86_H]) == shares
    assert "It holds." in mail


def test_the_rule_is_the_policy_s() -> None:
    while_clear = "+\tif (kvm_read_cr0(vcpu) & X86_CR0_CD)"
    quirk = "+\tif (kvm_check_has_quirk(vcpu->kvm, KVM_X86_QUIRK_CD_NW_CLEARED))"
    for policy, rules in (("v6.1", (0, 1)), ("Base2", (1, 0)), ("+9+10", (1, 0))):
        mail = patch(PROTOCOLS["direct"], by_name(policy), texts(), MAIL)
        assert (mail.count(while_clear), mail.count(quirk)) == rules
        assert mail.count("state->fixed_ranges[i] == type") == (policy == "+9+10")


@pytest.mark.parametrize("policy", ["v6.1", "Base1", "v6.7", "Base2", "+9", "+9+10", "ticket"])
def test_the_type_while_cd_is_set_is_the_policy_s(policy: str) -> None:
    """A toggle that leaves out what is WB would else leave WB+IPAT behind, as a kernel showed."""
    tree, protocol, rule = texts(), PROTOCOLS["ticket"], by_name(policy)
    ignores = rule.cd_type_with_quirk == EptType(MemType.WB, ipat=True)
    changed = edited(protocol, rule, tree)
    assert (VMX in changed) != ignores
    assert ("the EPT type is WB, and" in patch(protocol, rule, tree, MAIL)) != ignores
    if ignores:
        return
    assert (
        "NW_CLEARED))\n\t\t\treturn MTRR_TYPE_WRBACK << VMX_EPT_MT_EPTE_SHIFT;\n\n"
        "\t\tcache = MTRR_TYPE_UNCACHABLE;\n\t\treturn (cache << VMX_EPT_MT_EPTE_SHIFT) | "
        "VMX_EPT_IPAT_BIT;\n\t}\n"
    ) in changed[VMX]
    # Since v6.7 Linux says so itself.
    assert VMX not in edited(protocol, rule, tree | {VMX: changed[VMX]})
    newer = changed[VMX].replace("kvm_read_cr0_bits", "kvm_is_cr0_bit_set")
    assert VMX not in edited(protocol, rule, tree | {VMX: newer.replace("static u8", "u8")})


@pytest.mark.parametrize(
    ("path", "old", "problem"),
    [
        (HOST, "struct kvm_arch {", "not found: once: struct kvm_arch {"),
        (HOST, "noncoherent_dma_count", "not found: once: atomic_t noncoherent_dma_count;"),
        (MTRR, "update_mtrr", "not found: function update_mtrr()"),
        (MTRR, "gpa_to_gfn(end)", "not found: in update_mtrr(): kvm_zap_gfn_range(vcpu->kvm, "),
        (MTRR, "var_mtrr_range_is_valid", "not found: function var_mtrr_range_is_valid()"),
        (X86, "kvm_arch_init_vm", "not found: function kvm_arch_init_vm()"),
        (X86, "X86_CR0_CD", "not found: the zap in kvm_post_set_cr0()"),
        (X86_H, "kvm_vcpu_mtrr_init", "not found: once: void kvm_vcpu_mtrr_init("),
        (VMX, "vmx_get_mt_mask", "not found: function vmx_get_mt_mask()"),
        (VMX, "cache = MTRR_TYPE_WRBACK", "not found: in vmx_get_mt_mask(): the type while CR0.CD"),
        (VMX, ") | VMX_EPT_IPAT_BIT", "not found: in vmx_get_mt_mask(): the type while CR0.CD"),
        (VMX, "X86_CR0_CD", "not found: in vmx_get_mt_mask(): the type while CR0.CD = 1"),
    ],
)
def test_another_tree_is_refused(path: str, old: str, problem: str) -> None:
    tree = texts()
    tree[path] = tree[path].replace(old, "something_else")
    with pytest.raises(UserError) as error:
        patch(PROTOCOLS["v4"], by_name("+9"), tree, MAIL)
    assert error.value.problem.startswith(problem)
    assert error.value.place == path


@pytest.mark.parametrize("name", PROTOCOLS)
def test_everything_is_as_posted_or_as_the_review_asks(name: str) -> None:
    """A list keeps the end of v4, so that a toggle and a write of the default type are the same."""
    mail = patch(PROTOCOLS[name], by_name("Base2"), texts(), MAIL)
    listed = "zap_list" in mail
    assert ("\n+\tstruct kvm_mtrr_zap_range range = { 0, ~0ULL };" in mail) != listed
    assert (name in ("direct", "review", "ticket")) != listed
    assert ("\n+\tif (range.start < range.end)\n" in mail) == (name != "direct")
    assert "\n+static void kvm_" in mail
    for line in mail.splitlines():
        if line.startswith("+"):
            assert len(line[1:].expandtabs(8)) <= 80, line


@pytest.mark.parametrize("name", ["direct", "v4"])
def test_only_an_array_makes_a_window_the_whole_area(name: str) -> None:
    with pytest.raises(UserError, match="only an array makes a fixed MTRR's range the whole"):
        patch(PROTOCOLS[name], by_name("review"), texts(), MAIL)


@pytest.mark.parametrize("name", ["+9+10+11", "Base2+12", "lazy", "v6.11"])
def test_rules_without_c_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="has no C"):
        patch(PROTOCOLS["v4"], by_name(name), texts(), MAIL)
