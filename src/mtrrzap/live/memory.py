"""The guest's memory: one anonymous mapping, the zap, and a check that no data was lost."""

import struct
from collections.abc import Iterator
from errno import EINVAL

from mtrrzap.errors import UserError
from mtrrzap.live import host
from mtrrzap.live.guest import LARGE, PAGE, Layout

_RW = host.PROT_READ | host.PROT_WRITE


class GuestMemory:
    """Bytes from guest address 0 on, backed by pages of 4 KiB or, if the host gives them, 2 MiB."""

    def __init__(self, size: int, *, huge: bool = False) -> None:
        """Map them. Raises ``OSError``."""
        self.size = size
        self._mapping = host.Mapping(size + LARGE)
        self._offset = -self._mapping.address % LARGE
        advice = host.MADV_HUGEPAGE if huge else host.MADV_NOHUGEPAGE
        try:
            self._mapping.advise(self._offset, size, advice)
        except OSError as error:
            self.close()
            if huge and error.errno == EINVAL:
                raise UserError(
                    "this host has no transparent huge pages", place="page_size", mend="use 4K"
                ) from error
            raise
        self.view = self._mapping.view()[self._offset : self._offset + size]

    @property
    def address(self) -> int:
        """Where it begins in this process."""
        return self._mapping.address + self._offset

    def zap(self, start: int, end: int) -> None:
        """Make KVM drop its entries of the frames ``[start, end)``, which lie inside the memory.

        A change of protection in the monitor's own mapping invalidates secondary page tables
        (``mmu_notifier``): from RW to RWX, and back. Neither takes data or a right away from
        the guest. Of two at once, one would find the change already made, so callers hold a lock.
        """
        at, size = self._offset + start * PAGE, (end - start) * PAGE
        self._mapping.protect(at, size, _RW | host.PROT_EXEC)
        self._mapping.protect(at, size, _RW)

    def close(self) -> None:
        """Give the memory back."""
        self.view = memoryview(b"")
        self._mapping.close()


_MAGIC = 0x9E37_79B9_7F4A_7C15


def _pattern(address: int) -> int:
    return (address + 1) * _MAGIC & (1 << 64) - 1


def fill(view: memoryview, where: Layout) -> None:
    """Write a pattern of its own into every data page: two words that the guest never touches."""
    for address in range(0, where.system, PAGE):
        word = _pattern(address)
        struct.pack_into("<QQ", view, address, 0, word)
        struct.pack_into("<Q", view, address + PAGE - 8, word)


def lost(view: memoryview, where: Layout, rounds: list[int]) -> Iterator[str]:
    """Yield what is wrong with the data pages, given how often each vCPU touched its own."""
    counts: dict[int, int] = {}
    for vcpu in range(where.vcpus):
        counts |= dict.fromkeys(where.pages(vcpu), rounds[vcpu])
    for address in range(0, where.system, PAGE):
        count, word = struct.unpack_from("<QQ", view, address)
        (last,) = struct.unpack_from("<Q", view, address + PAGE - 8)
        if count != counts.get(address, 0):
            yield f"gfn {address // PAGE:#x}: counted {count} of {counts.get(address, 0)}"
        if not word == last == _pattern(address):
            yield f"gfn {address // PAGE:#x}: holds {word:#x} and {last:#x}"
