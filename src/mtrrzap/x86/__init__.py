"""What the processor manual says of MTRRs, memory types, PAT, CR0.CD and EPT types. No KVM here.

"SDM" is Intel's Software Developer's Manual, volume 3. Addresses are guest-physical, in bytes;
ranges are half-open.
"""
