"""``threads``: a protocol on real threads, in front of a costly zap of your own (docs/threads.md).

:class:`ZapCoordinator` serves threads, :class:`AsyncZapCoordinator` tasks of asyncio.
:class:`Runtime` is what the former is made of, with numbered vCPUs.
"""

from mtrrzap.threads.coordinator import ZapCoordinator
from mtrrzap.threads.ledger import ZapError, ZapInterruptedError
from mtrrzap.threads.runtime import Runtime
from mtrrzap.threads.state import ClosedError
from mtrrzap.threads.tasks import AsyncZapCoordinator

__all__ = [
    "AsyncZapCoordinator",
    "ClosedError",
    "Runtime",
    "ZapCoordinator",
    "ZapError",
    "ZapInterruptedError",
]
