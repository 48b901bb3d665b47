"""A worker on this machine: ``python -m mtrrzap.sweep.serve FD``, at the other end of a socket.

It ends when its parent does, however that ends, and leaves Ctrl-C to it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection

from mtrrzap.sweep.work import prepare, work


def serve(descriptor: int) -> None:
    """Take a job, then tasks, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(descriptor,), daemon=True).start()
    with Connection(descriptor) as connection:
        try:
            job = connection.recv()
            prepare(job)
            connection.send(None)
            while (numbers := connection.recv()) is not None:
                connection.send(work(job.name, numbers))
        except (EOFError, OSError):  # the parent is gone
            return


def _end_with_parent(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, 0)  # reports nothing but the end
    poll.poll()
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
