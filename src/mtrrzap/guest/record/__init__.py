"""Record a guest: boot it in QEMU's TCG and write down what the replay needs (docs/record.md).

The first pass (``survey``) finds the instructions that matter; the later ones (``breakpoint_pass``)
stop at each of them. ``session`` runs the passes and writes the trace.
"""

from mtrrzap.guest.record.session import Recorded, record
from mtrrzap.guest.record.settings import Progress, RecordOptions

__all__ = ["Progress", "RecordOptions", "Recorded", "record"]
