"""``threads``: a protocol on real threads, in front of a costly zap of your own (docs/threads.md).

- :class:`Runtime` performs a protocol's operations for numbered vCPUs, each on its thread.
"""

from mtrrzap.engine.threads.errors import ClosedError, ZapError, ZapInterruptedError
from mtrrzap.engine.threads.runtime import Runtime

__all__ = [
    "ClosedError",
    "Runtime",
    "ZapError",
    "ZapInterruptedError",
]
