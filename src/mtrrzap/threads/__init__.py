"""``threads``: a protocol on real threads, in front of a costly zap of your own (docs/threads.md).

:class:`ZapCoordinator` is for any thread that wants a range zapped; :class:`AsyncZapCoordinator`
for tasks of asyncio. :class:`Runtime` is below both, with numbered vCPUs.
"""

from mtrrzap.threads.coordinator import ZapCoordinator
from mtrrzap.threads.errors import ClosedError, ZapError, ZapInterruptedError
from mtrrzap.threads.runtime import Runtime
from mtrrzap.threads.tasks import AsyncZapCoordinator

__all__ = [
    "AsyncZapCoordinator",
    "ClosedError",
    "Runtime",
    "ZapCoordinator",
    "ZapError",
    "ZapInterruptedError",
]
