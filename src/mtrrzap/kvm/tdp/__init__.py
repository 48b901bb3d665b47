"""The second-stage page table as KVM's TDP MMU keeps it, and what a zap does to it.

``levels`` names entry sizes, ``blocks`` says which leaf a fault installs, ``table`` is the page
table with its walks, ``cost`` adds up the walks of a trace. All figures are counts, not times.
"""

from mtrrzap.kvm.tdp.blocks import LeafRun, Leaves, Memslot
from mtrrzap.kvm.tdp.cost import FullTable
from mtrrzap.kvm.tdp.table import PageTable, Zap

__all__ = ["FullTable", "LeafRun", "Leaves", "Memslot", "PageTable", "Zap"]
