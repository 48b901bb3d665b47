"""Record a guest: boot it in QEMU's TCG and write down what the replay needs (docs/record.md)."""

from mtrrzap.guest.record.options import Options
from mtrrzap.guest.record.progress import Progress
from mtrrzap.guest.record.session import Outcome, record

__all__ = ["Options", "Outcome", "Progress", "record"]
