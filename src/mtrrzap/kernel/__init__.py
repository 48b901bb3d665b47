"""A real kernel as the judge: KVM itself makes the zaps, and they are compared with a policy's.

``monitor`` runs a trace on a VM whose MTRR and CR0 writes KVM handles, ``tracefs`` reads which zaps
it made, ``judge`` compares (docs/kernel.md). ``boot`` does all that in an emulated AMD host.
"""
