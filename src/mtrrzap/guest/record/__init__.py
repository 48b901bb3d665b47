"""Record a guest: boot it in QEMU's TCG and write down what the replay needs (docs/record.md)."""

from mtrrzap.guest.record.session import Recorded, record
from mtrrzap.guest.record.settings import Options

__all__ = ["Options", "Recorded", "record"]
