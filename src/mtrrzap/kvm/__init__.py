"""What KVM does with a guest's MTRRs and CR0.CD: its lookup, its policies, the zaps it requests.

Guest frame numbers (gfns) are 4-KiB frames; ranges are half-open, in gfns.
"""
