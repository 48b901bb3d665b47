"""The main thread: Ctrl-C, signal handlers that raise, forks. Each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from helpers.paths import TESTS

LIMIT = 100.0


PREAMBLE = """
import faulthandler, os, signal, sys, threading
faulthandler.dump_traceback_later(80, exit=True)
sys.path.insert(0, {tests!r})
from helpers.crew import Crew, reached
from helpers.zap_log import Call, Clock, Zap, judge
from mtrrzap.threads import ZapCoordinator, ZapError, coordinator as face
from mtrrzap.errors import UserError
PROTOCOL = {protocol!r}

def once(act):
    # when the main thread next comes to wait for its errand
    queue = face.SimpleQueue
    class Acting(queue):
        def get(self):
            act()
            return super().get()
    def make():
        face.SimpleQueue = queue
        return Acting()
    face.SimpleQueue = make
"""


def program(text: str, protocol: str = "ticket", *, status: int = 0) -> str:
    """Run a program, which prints what happened; the limit is enforced from here."""
    preamble = PREAMBLE.format(tests=str(TESTS), protocol=protocol)
    ran = subprocess.run(
        [sys.executable, "-c", preamble + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (ran.stderr, ran.returncode) == ("", status)
    return ran.stdout


@pytest.mark.parametrize("protocol", ["sketch", "review", "ticket"])
def test_ctrl_c_while_another_thread_zaps(protocol: str) -> None:
    """The main thread leaves at once; its request is served without it, and all goes on."""
    printed = program(
        """
        entered, leave, served = threading.Event(), threading.Event(), threading.Event()
        zaps = []
        def zap(start, end):
            zaps.append(start)
            if len(zaps) == 1:
                entered.set()
                reached(leave)
            if start == 0x2000:
                served.set()
        coordinator = ZapCoordinator(zap, PROTOCOL)
        crew = Crew()
        crew.start(coordinator.zap, 0x1000, 0x1001)
        reached(entered)
        once(lambda: crew.start(os.kill, os.getpid(), signal.SIGINT))
        try:
            coordinator.zap(0x2000, 0x2001)
        except KeyboardInterrupt:
            print("interrupted")
        leave.set()
        reached(served)
        coordinator.zap(0x3000, 0x3001)
        crew.start(coordinator.zap, 0x4000, 0x4001)
        crew.join()
        print([hex(start) for start in zaps])
        """,
        protocol,
    )
    assert printed == "interrupted\n['0x1000', '0x2000', '0x3000', '0x4000']\n"


def test_ctrl_c_while_the_main_thread_zaps() -> None:
    """The zap has failed: others whom it covered are told, and the next one works."""
    printed = program(
        """
        waiting = threading.Semaphore(0)
        calls = []
        def zap(start, end):
            calls.append(start)
            if len(calls) == 1:
                os.kill(os.getpid(), signal.SIGINT)
                threading.Event().wait()
        coordinator = ZapCoordinator(zap)
        try:
            coordinator.zap(0x1000, 0x1001)
        except KeyboardInterrupt:
            print("interrupted")
        crew = Crew()
        crew.start(coordinator.zap, 0x2000, 0x2001)
        crew.join()
        coordinator.zap(0x3000, 0x3001)
        print(calls)
        """
    )
    assert printed == f"interrupted\n{[0x1000, 0x2000, 0x3000]}\n"


@pytest.mark.parametrize("protocol", ["direct", "sketch", "review", "ticket"])
def test_a_handler_that_raises_anywhere_tears_nothing(protocol: str) -> None:
    """A timer interrupts the main thread, over and over, wherever it happens to be."""
    printed = program(
        """
        class Tick(Exception):
            pass
        ticks = []
        def handler(*_):
            ticks.append(1)
            raise Tick
        clock, zaps, calls, strange = Clock(), [], [], []
        def zap(start, end):
            begin = clock.tick()
            zaps.append(Zap(begin, clock.tick(), start, end, False))
        coordinator = ZapCoordinator(zap, PROTOCOL)
        stop = threading.Event()
        def caller(number):
            while not stop.is_set():
                call(number)
        def call(number):
            start = 0x1000 * (number + 1)
            begin = clock.tick()
            try:
                coordinator.zap(start, start + 1)
            except ZapError as error:
                # Zapped by the main thread, and torn there by a tick, maybe before a line of it.
                strange.extend(each for each in error.exceptions if not isinstance(each, Tick))
                return
            calls.append(Call(begin, clock.tick(), start, start + 1, False))
        crew = Crew()
        for number in range(3):
            crew.start(caller, number)
        signal.signal(signal.SIGALRM, handler)
        for i in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + i * 1e-5)
                while len(ticks) == i:
                    coordinator.zap(0x8000, 0x8001)
            except Tick:
                pass
            except ZapError as error:
                assert isinstance(error.exceptions[0], Tick)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        stop.set()
        crew.join()
        coordinator.zap(0x9000, 0x9001)
        crew.start(coordinator.zap, 0x9000, 0x9001)
        crew.join()
        print(len(ticks), len(calls) > 0, judge(calls, zaps).lost, strange)
        """,
        protocol,
    )
    assert printed == "150 True [] []\n"


def test_a_signal_handler_that_zaps_is_refused() -> None:
    """The main thread may be what its zap waits for."""
    printed = program(
        """
        entered, leave = threading.Event(), threading.Event()
        def zap(start, end):
            entered.set()
            reached(leave)
        coordinator = ZapCoordinator(zap)
        crew = Crew()
        crew.start(coordinator.zap, 0x1000, 0x1001)
        reached(entered)
        def handler(*_):
            try:
                coordinator.zap(0x2000, 0x2001)
            except UserError as error:
                print(error)
            leave.set()
        signal.signal(signal.SIGUSR1, handler)
        once(lambda: crew.start(os.kill, os.getpid(), signal.SIGUSR1))
        coordinator.zap(0x3000, 0x3001)
        crew.join()
        print("done")
        """
    )
    assert printed.splitlines()[0].startswith("a ZapCoordinator.zap() is called from within itself")
    assert printed.splitlines()[-1] == "done"


def test_a_fork_is_refused_in_the_child() -> None:
    printed = program(
        """
        coordinator = ZapCoordinator(lambda *_: None)
        parent = os.getpid()
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        if (child := os.fork()) == 0:
            try:
                coordinator.zap(1, 2)
            except UserError as error:
                print(str(error).replace(str(parent), "N"), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        coordinator.zap(1, 2)
        print("parent goes on")
        """
    )
    assert printed == (
        "a ZapCoordinator was made in process N, and this is a fork of it; make one in each "
        "process\nparent goes on\n"
    )


def test_a_finalizer_that_zaps_is_refused() -> None:
    """The garbage collector may run one in the middle of a call."""
    printed = program(
        """
        import sys
        class Dying:
            def __del__(self):
                coordinator.zap(1, 2)
        def zap(start, end):
            Dying()
        coordinator = ZapCoordinator(zap)
        sys.unraisablehook = lambda what: print(type(what.exc_value).__name__)
        crew = Crew()
        crew.start(coordinator.zap, 1, 2)
        crew.join()
        print("done")
        """
    )
    assert printed == "UserError\ndone\n"


def test_a_thread_that_waits_does_not_keep_the_program_from_ending() -> None:
    """Daemon threads in a zap and in a wait: the interpreter ends, with the status asked for."""
    program(
        """
        entered = threading.Event()
        def zap(start, end):
            entered.set()
            threading.Event().wait()
        coordinator = ZapCoordinator(zap)
        for _ in range(3):
            threading.Thread(target=coordinator.zap, args=(1, 2), daemon=True).start()
        reached(entered)
        sys.exit(7)
        """,
        status=7,
    )
