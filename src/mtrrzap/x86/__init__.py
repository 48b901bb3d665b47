"""What the processor manual says about MTRRs, memory types, PAT, CR0.CD and EPT types.

Nothing here knows KVM. "SDM" is Intel's Software Developer's Manual, volume 3; addresses are
guest-physical and in bytes, ranges are half-open.
"""
