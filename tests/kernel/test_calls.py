"""ftrace's lines, as Linux 6.1 writes them."""

import pytest

from helpers.kernel_records import call, line
from mtrrzap.errors import UserError
from mtrrzap.kernel.calls import Call, Change, calls, read
from mtrrzap.x86.ept import EptType
from mtrrzap.x86.memtype import MemType

ZAP_WITH_DETAILS = """\
      python3.11-110     [000] .....    21.061380: tracing_mark_write: e 3
      python3.11-110     [000] .....    21.061387: zap: (kvm_zap_gfn_range+0x0/0x100 [kvm]) \
start=0x0 end=0xffffffffffffffff by=kvm_set_cr0+0x11e/0x220 [kvm]
      python3.11-110     [000] .N...    21.155544: wlock: (_raw_write_lock+0x0/0x30)
      python3.11-110     [000] .N.1.    21.155821: again: (tdp_iter_restart+0x0/0x70 [kvm])
      python3.11-110     [000] .N.1.    21.155880: visit: (tdp_iter_next+0x0/0x170 [kvm])
      python3.11-110     [000] .N.1.    21.155889: visit: (tdp_iter_next+0x0/0x170 [kvm])
      python3.11-110     [000] .N.1.    21.156132: kvm_tdp_mmu_spte_changed: as id 0 gfn 1f \
level 1 old_spte 6d97e67 new_spte 0
      python3.11-110     [000] .....    21.156704: wlock: (_raw_write_lock+0x0/0x30)
      python3.11-110     [000] ...1.    21.156732: again: (tdp_iter_restart+0x0/0x70 [kvm])
      python3.11-110     [000] ...1.    21.156753: kvm_tdp_mmu_spte_changed: as id 0 gfn 200 \
level 2 old_spte 6d97ee7 new_spte 0
      python3.11-110     [000] ...1.    21.156753: kvm_tdp_mmu_spte_changed: as id 0 gfn 400 \
level 2 old_spte 6d97e67 new_spte 0
      python3.11-110     [000] ...1.    21.161387: zapped: (kvm_set_cr0+0x11e/0x220 [kvm] <- \
kvm_zap_gfn_range)
"""


def test_a_call_belongs_to_the_event_before_it() -> None:
    text = call(1, 0, 9) + line(2, "tracing_mark_write: e 0") + line(3, "tracing_mark_write: e 1")
    text += call(4, 0x80, 0xA0, "kvm_set_cr0")
    assert calls(text) == [
        Call(-1, 0, 9, "kvm_mtrr_set_msr", 7e-6),
        Call(1, 0x80, 0xA0, "kvm_set_cr0", 7e-6),
    ]


def test_what_a_zap_did() -> None:
    *changes, made = read(ZAP_WITH_DETAILS)
    assert changes == [
        Change(3, 0x1F, 1, 0x6D97E67, 0, zapped=True),
        Change(3, 0x200, 2, 0x6D97EE7, 0, zapped=True),
        Change(3, 0x400, 2, 0x6D97E67, 0, zapped=True),
    ]
    assert isinstance(made, Call)
    assert made._replace(seconds=0.0) == Call(
        *(3, 0, (1 << 64) - 1, "kvm_set_cr0", 0.0),
        leaves=2,
        others=1,
        visits=2,
        restarts=1,
        lock="write",
    )
    assert made.seconds == pytest.approx(0.1)


def test_the_ept_type_of_a_leaf() -> None:
    text = line(1, "type: (mtrrzap_ept_type+0x0/0x10 [kvm]) gfn=0x1f bits=0x70")
    text += line(1, "kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 2 old_spte 0 new_spte b609827")
    text += line(1, "kvm_tdp_mmu_spte_changed: as id 0 gfn 1f level 1 old_spte 0 new_spte 6d97e67")
    table, leaf = read(text)
    assert isinstance(table, Change)
    assert isinstance(leaf, Change)
    assert (table.is_table, table.is_leaf, table.type) == (True, False, None)
    assert (leaf.is_table, leaf.is_leaf) == (False, True)
    assert leaf.type == EptType(MemType.WB, ipat=True)


def test_an_unknown_form() -> None:
    with pytest.raises(UserError, match="unknown form"):
        calls(line(1, "kvm_tdp_mmu_spte_changed: something else"))


def test_lost_events() -> None:
    with pytest.raises(UserError, match="lost events"):
        calls("CPU:0 [LOST 17 EVENTS]\n")
