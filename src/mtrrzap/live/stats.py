"""KVM's binary statistics (KVM_GET_STATS_FD): counters of a VM or of one vCPU, by name."""

import ctypes
import os
import struct
from collections.abc import Iterable

from mtrrzap.live.host import ioctl
from mtrrzap.live.ioctl import GET_STATS_FD, StatsDescriptor, StatsHeader


class Statistics:
    """Some counters of one VM or vCPU. Owns a descriptor until ``close``."""

    def __init__(self, owner: int, names: Iterable[str]) -> None:
        """``owner`` is the descriptor of the VM or vCPU; names that it lacks stay 0.

        Raises ``OSError``, also for a KVM that has none (before v5.14).
        """
        self._fd = ioctl(owner, GET_STATS_FD)
        wanted = frozenset(names)
        self._offsets: dict[str, int] = {}
        try:
            header = StatsHeader.from_buffer_copy(self._read(0, ctypes.sizeof(StatsHeader)))
            size = ctypes.sizeof(StatsDescriptor) + header.name_size
            block = self._read(header.desc_offset, size * header.num_desc)
            for at in range(0, len(block), size):
                about = StatsDescriptor.from_buffer_copy(block, at)
                raw = block[at + ctypes.sizeof(StatsDescriptor) : at + size]
                name = raw.split(b"\0", 1)[0].decode("ascii", "replace")
                if name in wanted:
                    self._offsets[name] = header.data_offset + about.offset
        except BaseException:
            self.close()
            raise

    def _read(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def read(self) -> dict[str, int]:
        """Return the counters as they are now."""
        return {
            name: int(struct.unpack("<Q", self._read(offset, 8))[0])
            for name, offset in self._offsets.items()
        }

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
