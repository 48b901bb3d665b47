"""Runs of the live engine for tests, to be called in a process of their own."""

import os
import resource
import signal
import threading
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from time import sleep

from mtrrzap.cli.run import case_of
from mtrrzap.errors import UserError
from mtrrzap.guest import open as traces
from mtrrzap.kvm.replay import Host
from mtrrzap.live.guest import GuestOp
from mtrrzap.live.measure import Engine, RunSettings, once
from mtrrzap.live.on_kvm import OnKvm
from mtrrzap.live.plan import Plan, plan
from mtrrzap.live.running import run
from mtrrzap.live.tally import Run
from mtrrzap.study.rescale import with_vcpus

HOST = Host()


def planned(name: str, vcpus: int) -> Plan:
    return plan(with_vcpus(traces.load(Path(name)), vcpus))


def broken(how: str, *, timeout: float = 60) -> Run:
    """Run OVMF with 4 vCPUs in a guest that was tampered with."""
    target = OnKvm(planned("ovmf-8", 4), 64 << 20, 16)
    view, where = target.memory.view, target.where
    code, table = where.system, where.private[1] + 2 * 4096
    match how:
        case "endless":
            view[code : code + 2] = bytes.fromhex("ebfe")  # jmp $
        case "undefined":
            view[code : code + 2] = bytes.fromhex("0f0b")  # ud2
        case "no IDT":
            idt = where.private[2] + 0x200
            view[idt : idt + 512] = bytes(512)
        case "no memory":
            # the first 2 MiB are mapped behind the slot
            view[code + 3 * 4096 : code + 3 * 4096 + 8] = (64 << 20 | 0xE7).to_bytes(8, "little")
        case "another value":
            view[table + 16 * (2 + _first_wrmsr(1)) + 8] ^= 1
        case "a page less":
            view[where.pages(3)[5] + 8] ^= 1
    try:
        return run(case_of("ticket"), planned("ovmf-8", 4), HOST, target, timeout=timeout)
    finally:
        target.close()
        print("threads", threading.active_count())


def _first_wrmsr(vcpu: int) -> int:
    return [e.op for e in planned("ovmf-8", 4).tables()[vcpu]].index(GuestOp.WRMSR)


def interrupted() -> None:
    """Press Ctrl-C while a guest runs that would never end."""
    target = OnKvm(planned("ovmf-8", 4), 64 << 20, 16)
    view, code = target.memory.view, target.where.system
    view[code : code + 2] = bytes.fromhex("ebfe")

    def press() -> None:
        while target.counters().faults < 1:  # a vCPU has fetched its code: it is in the guest
            sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    try:
        run(case_of("review"), planned("ovmf-8", 4), HOST, target, timeout=100)
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        target.close()


def left_behind(engine: str, runs: int) -> None:
    """Print descriptors, threads and mappings after some runs, and after many more."""
    divided = plan(traces.load(Path("cd-types-outlive-the-window")))
    settings = RunSettings(engine=Engine(engine), memory=1 << 20, touch=4, timeout=60)
    for number in range(runs):
        if number in (runs // 10, runs - 1):
            print(*_owned())
        limit = settings if number % 10 else replace(settings, timeout=1e-6)
        with suppress(UserError) if limit is not settings else nullcontext():
            once(case_of("ticket"), divided, HOST, limit)


def starved() -> None:
    """Build machines with one descriptor more each time, until one can be built."""
    divided = plan(traces.load(Path("cd-types-outlive-the-window")))
    settings = RunSettings(memory=1 << 20, touch=4)
    once(case_of("ticket"), divided, HOST, settings)
    print(*_owned()[:3])
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    refused = set()
    for more in range(1000):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3 + more, most[1]))
        try:
            once(case_of("ticket"), divided, HOST, settings)
        except UserError as error:
            refused.add(str(error.place))
            continue
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
        break
    print(*_owned()[:3])
    print(more, *refused)


def _owned() -> tuple[int, int, int, int]:
    for _ in range(1000):
        if _entries("task") == 1:
            break
        sleep(0.01)  # the last moments of a thread that was joined
    maps = Path("/proc/self/maps").read_text(encoding="ascii").splitlines()
    kinds = Counter("kvm" in line for line in maps)
    return _entries("fd"), _entries("task"), kinds[True], len(maps)


def _entries(name: str) -> int:
    return len(list(Path("/proc/self").joinpath(name).iterdir()))
