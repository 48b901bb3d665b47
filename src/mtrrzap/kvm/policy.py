"""The zap policies as data: when KVM asks for a zap, for which range, under which lock.

A policy is a row. Code that tests for a policy's name is a defect: add a field instead. The rows
``Base1`` to ``Base2+9+10+12`` are those of the table in the cover letter of the series "KVM:
x86/mmu: refine memtype related mmu zap", v4 (July 2023); a number behind a plus is a patch of it.
"""

from dataclasses import dataclass, replace
from enum import Enum

from mtrrzap.errors import UserError
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType


class Ask(Enum):
    """When an event makes a zap request. The values complete the sentence "asks ..."."""

    NEVER = "never"
    WITHOUT_QUIRK = "only with KVM_X86_QUIRK_CD_NW_CLEARED disabled"
    WHILE_CD_CLEAR = "only while CR0.CD = 0"
    ALWAYS = "always"

    def holds(self, *, cd: bool, quirk: bool) -> bool:
        """Tell if it asks, given CR0.CD after the event and KVM_X86_QUIRK_CD_NW_CLEARED."""
        match self:
            case Ask.NEVER:
                return False
            case Ask.WITHOUT_QUIRK:
                return not quirk
            case Ask.WHILE_CD_CLEAR:
                return not cd
            case Ask.ALWAYS:
                return True


class ToggleRange(Enum):
    """For which frames a CR0.CD toggle asks."""

    EVERYTHING = "everything"
    FINE_GRAINED = "fixed area and variable ranges of another type than the default (patch 10)"


class FixedRange(Enum):
    """For which frames a write to a fixed MTRR asks."""

    WINDOW = "the MSR's own window"
    AREA = "the whole fixed area, [0, 0x100)"


class Needs(Enum):
    """Which VMs make requests at all."""

    TDP = "two-dimensional paging (EPT or NPT) and non-coherent DMA"
    EPT = "EPT and non-coherent DMA"


class Lock(Enum):
    """How the walk of the second-stage page table holds ``mmu_lock``."""

    WRITE = "write"
    READ = "read"


class Walk(Enum):
    """Which entries of the second-stage page table a zap clears."""

    LEAFS = "every leaf that overlaps the range; page-table pages stay"
    SUBTREES = "every entry of up to 1 GiB that lies fully inside the range (patch 12)"
    TREES = "every entry that lies fully inside the range, the root's too; every overlapping leaf"
    MARK = "nothing: it marks the present top-level entries; later accesses recompute the types"


_WB = EptType(MemType.WB)
_WB_IPAT = EptType(MemType.WB, ipat=True)
_UC_IPAT = EptType(MemType.UC, ipat=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One zap policy: a KVM version or a row of the series."""

    name: str
    says: str
    """One phrase for a table."""
    mtrr_write: Ask
    cd_toggle: Ask
    needs: Needs = Needs.EPT
    toggle_range: ToggleRange = ToggleRange.EVERYTHING
    fixed_range: FixedRange = FixedRange.WINDOW
    by_memslot: bool = False
    """Split the range "everything" into its parts inside memslots (patch 11)."""
    mmu_lock: Lock = Lock.WRITE
    walk: Walk = Walk.LEAFS
    protocol: str = "direct"
    """How concurrent requests share the work: a name in ``mtrrzap.protocol``."""
    cd_type_with_quirk: EptType | None = _WB
    """EPT type while CR0.CD = 1 and the quirk is on; None: CR0.CD is not looked at."""
    honours_mtrrs: bool = True
    """The guest's MTRRs decide the EPT type, given EPT and non-coherent DMA."""
    source: str

    def cd_type(self, *, quirk: bool) -> EptType | None:
        """Return the EPT type of RAM while CR0.CD = 1; ``quirk``: KVM_X86_QUIRK_CD_NW_CLEARED."""
        if self.cd_type_with_quirk is None or quirk:
            return self.cd_type_with_quirk
        return _UC_IPAT


_SERIES = 'v4 of "KVM: x86/mmu: refine memtype related mmu zap" (14 July 2023)'

_BASE1 = Policy(
    name="Base1",
    says="the series' patches 1-5",
    mtrr_write=Ask.ALWAYS,
    cd_toggle=Ask.WITHOUT_QUIRK,
    cd_type_with_quirk=_WB_IPAT,
    source=f"{_SERIES}, patches 1-5",
)
_BASE2 = replace(
    _BASE1,
    name="Base2",
    says="+ 6-8: zap on every CD toggle, not on MTRR writes under CD=1",
    mtrr_write=Ask.WHILE_CD_CLEAR,
    cd_toggle=Ask.ALWAYS,
    cd_type_with_quirk=_WB,
    source=f"{_SERIES}, patches 1-8",
)
_P9 = replace(
    _BASE2,
    name="Base2+9",
    says="one vCPU zaps a shared list, the others wait",
    protocol="v4",
    source=f"{_SERIES}, patches 1-9",
)
_P10 = replace(
    _P9,
    name="Base2+9+10",
    says="+ fine-grained ranges on a CD toggle",
    toggle_range=ToggleRange.FINE_GRAINED,
    protocol="v4_patch10",
    source=f"{_SERIES}, patches 1-10",
)
_P11 = replace(
    _P10,
    name="Base2+9+10+11",
    says="+ everything split by memslots",
    by_memslot=True,
    source=f"{_SERIES}, patches 1-11",
)

POLICIES: tuple[Policy, ...] = (
    Policy(
        name="v6.1",
        says="Linux 6.1 to 6.6",
        mtrr_write=Ask.ALWAYS,
        cd_toggle=Ask.WITHOUT_QUIRK,
        needs=Needs.TDP,
        cd_type_with_quirk=_WB_IPAT,
        source="arch/x86/kvm/mtrr.c and x86.c, v6.1",
    ),
    Policy(
        name="v6.7",
        says="Linux 6.7 to 6.10",
        mtrr_write=Ask.ALWAYS,
        cd_toggle=Ask.WITHOUT_QUIRK,
        source="6590a37e7ec6, c0ad4a14c5af, a1596812cce1, 3c4955c04b95, f7b4bcd501ef (in v6.7)",
    ),
    Policy(
        name="v6.11",
        says="Linux 6.11 and later: guest MTRRs are not honoured",
        mtrr_write=Ask.NEVER,
        cd_toggle=Ask.NEVER,
        cd_type_with_quirk=None,
        honours_mtrrs=False,
        source="the removal of guest-MTRR virtualization (March 2024, in v6.11)",
    ),
    _BASE1,
    _BASE2,
    _P9,
    _P10,
    _P11,
    replace(
        _P11,
        name="Base2+9+10+11+12",
        says="+ mmu_lock for read, whole subtrees zapped",
        mmu_lock=Lock.READ,
        walk=Walk.SUBTREES,
        source=f"{_SERIES}, patches 1-12",
    ),
    replace(
        _BASE2,
        name="Base2+12",
        says="mmu_lock for read alone",
        mmu_lock=Lock.READ,
        walk=Walk.SUBTREES,
        source=f"{_SERIES}, patches 1-8 and 12",
    ),
    replace(
        _P10,
        name="Base2+9+10+12",
        says="without the split by memslots",
        mmu_lock=Lock.READ,
        walk=Walk.SUBTREES,
        source=f"{_SERIES}, patches 1-10 and 12",
    ),
    replace(
        _P10,
        name="review",
        says="a static array of 16 entries, sorted by start, merged",
        fixed_range=FixedRange.AREA,
        protocol="review",
        source="review of patch 9 (25 August 2023), with patches 6-8 and 10",
    ),
    replace(
        _P10,
        name="ticket",
        says="the review's array in numbered batches: nobody waits for strangers",
        fixed_range=FixedRange.AREA,
        protocol="ticket",
        source="this project, with patches 6-8 and 10",
    ),
    replace(
        _BASE2,
        name="lazy",
        says="Xen's answer: mark the top, recompute types on later accesses",
        walk=Walk.MARK,
        source="Xen, arch/x86/mm/p2m-ept.c (memory_type_changed, resolve_misconfig)",
    ),
)


_V61 = POLICIES[0]

OLDER: tuple[Policy, ...] = (
    replace(
        _V61,
        name="v4.2",
        says="Linux 4.2 and 4.3 as released: zaps on every CD toggle; walk as v4.4",
        cd_toggle=Ask.ALWAYS,
        source='efdfe536d8c6 "KVM: MMU: fix MTRR update", b18d5431acc7 "KVM: x86: fix CR0.CD '
        'virtualization", fb279950ba02 "KVM: vmx: obey KVM_QUIRK_CD_NW_CLEARED" (in v4.2; not '
        "known: whether VMs without non-coherent DMA zapped on toggles too)",
    ),
    replace(
        _V61,
        name="v4.4",
        says="Linux 4.4 to 5.14: requests as in v6.1; the old MMU finds the leaves by its rmaps",
        source='879ae1880449 "KVM: x86: obey KVM_X86_QUIRK_CD_NW_CLEARED in kvm_set_cr0()" (in '
        "v4.4, and in v4.2.8); approximate in visits only: kvm_zap_gfn_range in "
        "arch/x86/kvm/mmu.c looked at one rmap for each page and size of a memslot, not at entries",
    ),
    replace(
        _V61,
        name="v5.13",
        says="Linux 5.13 and 5.14 with kvm.tdp_mmu=1: whole subtrees, under the read lock",
        mmu_lock=Lock.READ,
        walk=Walk.TREES,
        source='6103bc074048 "KVM: x86/mmu: Allow zap gfn range to operate under the mmu read '
        'lock" (in v5.13; reverted by 5a324c24b638 in v5.15); approximate in flushes only: under '
        "the read lock each cleared entry was flushed too",
    ),
    replace(
        _V61,
        name="v5.15",
        says="Linux 5.15 to 5.17: the TDP MMU by default; whole subtrees are zapped",
        walk=Walk.TREES,
        source='71ba3f3189c7 "KVM: x86: enable TDP MMU by default" (in v5.15), 524a1e4e381f '
        '"KVM: x86/mmu: Don\'t leak non-leaf SPTEs when zapping all SPTEs" (in v5.15), until '
        'f47e5bbbc92f "KVM: x86/mmu: Zap only TDP MMU leafs in zap range and mmu_notifier unmap" '
        "(in v5.18); handle_removed_tdp_mmu_page flushed for each page-table page",
    ),
)
"""Kernels before v6.1 that behaved otherwise; 5.18 to 6.0 did as v6.1 does. Known by name; where no
policy is named, ``POLICIES`` are meant."""


def by_name(name: str) -> Policy:
    """Return the policy of this name; ``+9+10`` stands for ``Base2+9+10``. Raises ``UserError``."""
    full = f"Base2{name}" if name.startswith("+") else name
    for policy in (*POLICIES, *OLDER):
        if policy.name == full:
            return policy
    raise UserError(
        f"no policy {name!r}",
        place="policy",
        mend=f"known are: {', '.join(policy.name for policy in (*POLICIES, *OLDER))}",
    )
