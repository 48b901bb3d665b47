"""A workbench for the zaps that KVM makes when a guest changes its MTRRs or CR0.CD.

Data flows one way: ``guest`` (what a guest did) -> ``kvm`` (what KVM zaps for it) -> ``report``.
``x86`` holds what the processor manual says and knows nothing of the others.
"""

__version__ = "0.1.0"
