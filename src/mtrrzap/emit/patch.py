"""A patch against a kernel source tree: the state, its initialisation, the calls, the rule.

Places are found by the names of functions and structs, never by line numbers. A tree in which one
is missing, or looks otherwise than in v6.1 to v6.10, is refused with what was not found.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mtrrzap import __version__
from mtrrzap.emit import objects, source
from mtrrzap.emit.translate import Translation, translate
from mtrrzap.errors import UserError
from mtrrzap.kvm.policy import Ask, FixedRange, Lock, Policy, ToggleRange, Walk
from mtrrzap.protocol import Protocol, SharedObject, ZapArray, ZapList

HOST = "arch/x86/include/asm/kvm_host.h"
MTRR = "arch/x86/kvm/mtrr.c"
X86 = "arch/x86/kvm/x86.c"
X86_H = "arch/x86/kvm/x86.h"
VMX = "arch/x86/kvm/vmx/vmx.c"
FILES = (HOST, MTRR, X86, X86_H, VMX)
"""The files of a tree that are read; the patch changes some of them."""


class Mail(NamedTuple):
    """What a patch's mail says beside the change."""

    author: str
    """``Name <address>``, who also signs off."""
    date: str
    """As in RFC 5322."""
    checked: str
    """What was checked of the protocol, in sentences."""


@dataclass
class File:
    """A file that is being changed."""

    path: str
    text: str
    before: str = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.text

    def function(self, name: str) -> str:
        """Return a function's text, from its first line to its closing brace."""
        head = rf"^\w[^\n;{{}}()]*\b{name}\([^;{{}}]*\)\n"
        found = re.search(head + r"\{\n.*?^\}\n", self.text, _M)
        if found is None:
            raise self.missing(f"function {name}()")
        return found[0]

    def replace(self, old: str, new: str) -> None:
        """Replace a text that stands in the file once."""
        if self.text.count(old) != 1:
            raise self.missing(f"once: {old.strip().splitlines()[0]}")
        self.text = self.text.replace(old, new)

    def missing(self, what: str) -> UserError:
        """Return the error that says what was not found."""
        return UserError(
            f"not found: {what}",
            place=self.path,
            mend="give a source tree of Linux v6.1 to v6.10 that nothing else has patched there",
        )


_M = re.MULTILINE | re.DOTALL
_CONDITION = re.compile(
    r"\tif \(\(\(cr0 \^ old_cr0\) & X86_CR0_CD\) &&\n(?P<others>.*?)\)\n"
    r"\t\tkvm_zap_gfn_range\(vcpu->kvm, 0, (?:~0ULL|gpa_to_gfn\(~0ULL\))\);\n",
    _M,
)


_QUIRK = "kvm_check_has_quirk(vcpu->kvm, KVM_X86_QUIRK_CD_NW_CLEARED)"
_WB = "\t\t\treturn MTRR_TYPE_WRBACK << VMX_EPT_MT_EPTE_SHIFT;\n"
_OF_CD = rf"\n\tif \(kvm_\w+\(vcpu, X86_CR0_CD\)\) \{{\n\t\tif \({re.escape(_QUIRK)}\)\n"
_CACHE = re.compile(
    rf"({_OF_CD})\t\t\tcache = MTRR_TYPE_WRBACK;\n\t\telse\n"
    r"\t(\t\tcache = MTRR_TYPE_UNCACHABLE;\n)\n"
    r"(?=\t\treturn \(cache << VMX_EPT_MT_EPTE_SHIFT\) \| VMX_EPT_IPAT_BIT;\n)"
)
"""One type with, one without the quirk; both ignore the PAT."""
_CD_TYPE = re.compile(f"{_CACHE.pattern}|{_OF_CD}{re.escape(_WB)}")
"""As it was until v6.6, or is since."""


def patch(protocol: Protocol, policy: Policy, tree: Mapping[str, str], mail: Mail) -> str:
    """Return a mail that ``git am`` takes.

    ``tree`` has the texts of ``FILES``. ``policy`` is the rule of when to ask and for what; its
    protocol need not be this one.

    Raises:
        UserError: if the tree does not match, or if the rule or the protocol has no C.
    """
    return _mail(protocol, policy, mail, _edited(protocol, policy, tree))


def edited(protocol: Protocol, policy: Policy, tree: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of the files that the patch changes, as it leaves them.

    Raises:
        UserError: as ``patch`` does.
    """
    files = _edited(protocol, policy, tree)
    return {file.path: file.text for file in files if file.text != file.before}


def _edited(protocol: Protocol, policy: Policy, tree: Mapping[str, str]) -> list[File]:
    refuse(policy)
    found = translate(protocol)
    if policy.fixed_range is FixedRange.AREA and not _holds(found, ZapArray):
        raise UserError(
            f"{policy.name} has no C for {protocol.name}: only an array makes a fixed MTRR's range "
            "the whole fixed area",
            place="policy",
            mend="choose Base2+9+10",
        )
    files = {path: File(path, text) for path, text in tree.items()}
    edit = _Edit(files, found, policy)
    edit.state()
    edit.functions()
    edit.mtrr_write()
    edit.cd_toggle()
    edit.cd_type()
    return list(files.values())


def _holds(found: Translation, kind: type[SharedObject]) -> bool:
    return any(isinstance(each, kind) for each in found.used.values())


def refuse(policy: Policy) -> None:
    """Raise ``UserError`` if a policy asks for what has no C."""
    for wrong, what in (
        (policy.by_memslot, "the split by memslots (patch 11)"),
        (policy.mmu_lock is Lock.READ, "mmu_lock for read (patch 12)"),
        (policy.walk is not Walk.LEAFS, "another walk than that of the leaves"),
        (not policy.honours_mtrrs, "a KVM that does not honour guest MTRRs"),
    ):
        if wrong:
            raise UserError(
                f"{policy.name} has no C: {what}",
                place="policy",
                mend="choose one of v6.1, Base1, Base2, Base2+9, Base2+9+10, review, ticket",
            )


class _Edit:
    """The changes, place by place."""

    def __init__(self, files: dict[str, File], found: Translation, policy: Policy) -> None:
        self.files, self.found, self.policy = files, found, policy
        self.pieces = source.pieces(found, exported=False)

    def state(self) -> None:
        """Put the types and the state before ``struct kvm_arch``, and a field into it."""
        host = self.files[HOST]
        types = "\n".join(self.pieces.types)
        host.replace("\nstruct kvm_arch {\n", f"\n{types}\nstruct kvm_arch {{\n")
        if self.pieces.state:
            count = "\tatomic_t noncoherent_dma_count;\n"
            host.replace(count, f"{count}\tstruct kvm_mtrr_zap mtrr_zap;\n")

    def functions(self) -> None:
        """Put the functions before ``update_mtrr()``, and declare what x86.c calls."""
        mtrr = self.files[MTRR]
        update = mtrr.function("update_mtrr")
        initialise = self.pieces.init.replace("static void", "void")
        changed = self._cd_changed()
        made = [*self.pieces.defines, *self.pieces.functions, initialise, update]
        mtrr.replace(update, "\n".join(each for each in made if each))
        valid = mtrr.function("var_mtrr_range_is_valid")
        mtrr.replace(valid, f"{valid}\n{changed}")
        header = self.files[X86_H]
        anchor = "void kvm_vcpu_mtrr_init(struct kvm_vcpu *vcpu);\n"
        new = "void kvm_mtrr_cr0_cd_changed(struct kvm_vcpu *vcpu);\n"
        if initialise:
            new = f"void kvm_mtrr_zap_init(struct kvm *kvm);\n{new}"
            start = "\tatomic_set(&kvm->arch.noncoherent_dma_count, 0);\n"
            x86 = self.files[X86]
            init_vm = x86.function("kvm_arch_init_vm")
            if start not in init_vm:
                raise x86.missing("kvm_arch_init_vm() setting noncoherent_dma_count")
            x86.replace(init_vm, init_vm.replace(start, f"{start}\tkvm_mtrr_zap_init(kvm);\n"))
        header.replace(anchor, new + anchor)

    def mtrr_write(self) -> None:
        """Have ``update_mtrr()`` ask where it has zapped, and by the policy's rule."""
        mtrr = self.files[MTRR]
        update = mtrr.function("update_mtrr")
        zap = "\tkvm_zap_gfn_range(vcpu->kvm, gpa_to_gfn(start), gpa_to_gfn(end));\n"
        declaration = "\tgfn_t start, end;\n"
        enabled = "\tif (!mtrr_is_enabled(mtrr_state) && msr != MSR_MTRRdefType)\n"
        for each in (zap, declaration, enabled):
            if update.count(each) != 1:
                raise mtrr.missing(f"in update_mtrr(): {each.strip()}")
        # What vCPUs share has no place for an empty range.
        whether = _UNLESS_EMPTY if self.pieces.state else "\t"
        ask = _ASK.format(whether=whether, entry=self.found.entry.name)
        new = update.replace(zap, ask)
        new = new.replace(declaration, "\tstruct kvm_mtrr_zap_range range;\n" + declaration)
        new = new.replace(enabled, _WHEN[self.policy.mtrr_write] + enabled)
        mtrr.replace(update, new)

    def cd_toggle(self) -> None:
        """Have ``kvm_post_set_cr0()`` say that CR0.CD has changed, and decide nothing itself."""
        x86 = self.files[X86]
        found = _CONDITION.search(x86.text)
        if found is None:
            raise x86.missing("the zap in kvm_post_set_cr0()")
        new = "\tif ((cr0 ^ old_cr0) & X86_CR0_CD)\n\t\tkvm_mtrr_cr0_cd_changed(vcpu);\n"
        x86.replace(found[0], new)

    def cd_type(self) -> None:
        """Have ``vmx_get_mt_mask()`` say WB under CR0.CD = 1 with the quirk, where the rule does.

        A toggle that leaves out what is WB is right only then: Linux 6.1 to 6.6 say WB+IPAT.
        """
        wanted = self.policy.cd_type_with_quirk
        if wanted is None or wanted.ipat:
            return
        vmx = self.files[VMX]
        mask = vmx.function("vmx_get_mt_mask")
        if len(_CD_TYPE.findall(mask)) != 1:
            raise vmx.missing("in vmx_get_mt_mask(): the type while CR0.CD = 1")
        vmx.replace(mask, _CACHE.sub(lambda found: f"{found[1]}{_WB}\n{found[2]}", mask))

    def _cd_changed(self) -> str:
        """Return ``kvm_mtrr_cr0_cd_changed()``."""
        found = _CONDITION.search(self.files[X86].text)
        if found is None:
            raise self.files[X86].missing("the zap in kvm_post_set_cr0()")
        others = [each.strip().rstrip("&").strip() for each in found["others"].split("&&")]
        quirk = f"!{_QUIRK}"
        if quirk not in others:
            raise self.files[X86].missing("the quirk in the zap of kvm_post_set_cr0()")
        honours = " && ".join(each for each in others if each != quirk)
        whether = f"\tif (!{honours})\n\t\treturn;\n{_TOGGLE_WHEN[self.policy.cd_toggle]}"
        text = objects.text(_TOGGLE[self.policy.toggle_range])
        # As posted, a list has one end for "all"; the review wants 0 … ~0.
        end = "gpa_to_gfn(~0ULL)" if _holds(self.found, ZapList) else "~0ULL"
        words = {"\tWHETHER\n": whether, "ENTRY": self.found.entry.name, "END": end}
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        return text


_ASK = """\
	range.start = gpa_to_gfn(start);
	range.end = gpa_to_gfn(end);
{whether}{entry}(vcpu->kvm, &range, 1);
"""

_UNLESS_EMPTY = """\
	/* A variable range whose mask was never written is empty. */
	if (range.start < range.end)
		"""

_WHEN: dict[Ask, str] = {
    Ask.ALWAYS: "",
    Ask.WHILE_CD_CLEAR: """\
	/* CR0.CD = 1 outranks the MTRRs: its toggle zaps. */
	if (kvm_read_cr0(vcpu) & X86_CR0_CD)
		return;

""",
}

_TOGGLE_WHEN: dict[Ask, str] = {
    Ask.ALWAYS: "",
    Ask.WITHOUT_QUIRK: """\
	if (kvm_check_has_quirk(vcpu->kvm, KVM_X86_QUIRK_CD_NW_CLEARED))
		return;
""",
}

_TOGGLE = {
    ToggleRange.EVERYTHING: "toggle-everything.c",
    ToggleRange.FINE_GRAINED: "toggle-fine-grained.c",
}


def _mail(protocol: Protocol, policy: Policy, mail: Mail, files: list[File]) -> str:
    changed = [each for each in files if each.text != each.before]
    origin = "of mtrrzap" if protocol.source == "this project" else protocol.source
    words = [
        "vCPUs that change MTRRs or toggle CR0.CD at the same time zap the same ranges one after "
        f"the other. Have them share the work by the protocol {protocol.name} ({origin})."
        if protocol.name != "direct"
        else "Every vCPU zaps its own ranges.",
        f"By the rule of {policy.name} an MTRR write asks for a zap {policy.mtrr_write.value}, a "
        f"toggle of CR0.CD {policy.cd_toggle.value}, for {policy.toggle_range.value}.",
        "While CR0.CD is 1 with the quirk the EPT type is WB, and the guest's PAT counts: what a "
        "toggle leaves out has the right type."
        if any(each.path == VMX for each in changed)
        else "",
        mail.checked,
        f"The functions were translated by mtrrzap {__version__} from the text that it checks.",
    ]
    body = "\n\n".join(source.paragraph(each) for each in words if each)
    diffs = "".join(map(_diff, changed))
    return (
        "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n"
        f"From: {mail.author}\nDate: {mail.date}\n"
        f"Subject: [PATCH] KVM: x86: Zap for MTRR and CR0.CD changes by {protocol.name}\n\n"
        f"{body}\n\nSigned-off-by: {mail.author}\n---\n{diffs}-- \nmtrrzap {__version__}\n"
    )


def _diff(file: File) -> str:
    lines = difflib.unified_diff(
        file.before.splitlines(keepends=True),
        file.text.splitlines(keepends=True),
        f"a/{file.path}",
        f"b/{file.path}",
    )
    return f"diff --git a/{file.path} b/{file.path}\n" + "".join(lines)


Read = Callable[[str], str]


def read(get: Read) -> dict[str, str]:
    """Return the texts of ``FILES``, each read by ``get``."""
    return {path: get(path) for path in FILES}
