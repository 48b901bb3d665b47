"""Captures of a real KVM (trace-cmd, ftrace, perf) as traces.

``read_capture`` scans a capture once and keeps what matters; ``Capture.trace`` makes the trace of
one VM. Only ``source`` opens files.
"""

from mtrrzap.guest.importer.assemble import Start
from mtrrzap.guest.importer.capture import Capture, Imported, Known, read_capture

__all__ = ["Capture", "Imported", "Known", "Start", "read_capture"]
