"""What a guest did to its MTRRs and CR0.CD: events, the trace format, and where traces come from.

``open`` loads a trace, ``record`` boots a guest in QEMU and records it, ``importer`` reads captures
of a real KVM, ``listing`` reads MSR dumps and boot logs.
"""
