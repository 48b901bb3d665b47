"""Pass 1: run the guest once to find the instructions and the facts for the header."""

from dataclasses import dataclass, field
from time import monotonic

from mtrrzap.guest.record.facts import (
    firmware_name,
    image_version,
    kernel_name,
    last_words,
    parse_mtree,
)
from mtrrzap.guest.record.qemu import Qemu
from mtrrzap.guest.record.qmp import Qmp
from mtrrzap.guest.record.settings import Progress, RecordOptions, firmware_image, memory_bytes
from mtrrzap.guest.trace import Slot

_TCG_MAXPHYADDR = 40


@dataclass(slots=True)
class Survey:
    """What the passes have found."""

    vcpus: int
    memory: int
    maxphyaddr: int
    machine: str
    qemu: str
    firmware: str = "unknown unknown"
    kernel: str = "none"
    memslots: tuple[Slot, ...] = ()
    addresses: set[int] = field(default_factory=set)
    pages: set[int] = field(default_factory=set)
    problem: str | None = None
    """Why the guest did not power off, or None."""


def unknown_hardware(options: RecordOptions) -> Survey:
    """Return what the options say, for a recording that ends before QEMU has answered."""
    return Survey(
        vcpus=options.vcpus,
        memory=memory_bytes(options.memory),
        maxphyaddr=_TCG_MAXPHYADDR,
        machine="unknown",
        qemu="unknown",
    )


def hardware(qmp: Qmp, survey: Survey) -> None:
    """Ask QEMU for what is known before the guest runs. Raises ``QmpError`` and ``LookupError``."""
    cpus = qmp.execute("query-cpus-fast")
    path = cpus[0]["qom-path"]
    survey.vcpus = len(cpus)
    survey.memory = int(qmp.execute("query-memory-size-summary")["base-memory"])
    survey.maxphyaddr = int(qmp.execute("qom-get", path=path, property="phys-bits"))
    machine = str(qmp.execute("qom-get", path="/machine", property="type"))
    survey.machine = machine.removesuffix("-machine")
    survey.qemu = qmp.version


def watch_console(machine: Qemu, progress: Progress) -> None:
    """Keep the progress's last console line up to date."""

    def show(_data: bytes) -> None:
        progress.last_line = last_words(machine.console)

    machine.on_console = show


def run_survey(machine: Qemu, qmp: Qmp, survey: Survey, limit: float, progress: Progress) -> None:
    """Let the guest run to its end or for ``limit`` seconds, and fill ``survey`` in.

    Raises ``GoneError`` or ``StoppedError`` like ``Qemu.turn``; ``survey`` then has what is known.
    """
    until = monotonic() + limit
    try:
        watch_console(machine, progress)
        qmp.execute("cont")
        while (ending := qmp.ending()) is None:
            progress.sites = len(machine.log.addresses)
            machine.turn(until)
            if monotonic() >= until:
                survey.problem = f"the guest did not power off in {limit:g} s"
                break
        if ending not in (None, "SHUTDOWN"):
            survey.problem = f"QEMU reported {ending}"
        qmp.execute("stop")
        survey.memslots = parse_mtree(qmp.monitor("info mtree -f"))
    finally:
        machine.drain_log()
        survey.addresses = set(machine.log.addresses)
        survey.pages = set(machine.log.pages)
        survey.kernel = kernel_name(machine.console)


def name_firmware(machine: Qemu, survey: Survey, firmware: str) -> None:
    """Fill in the firmware's name from what the guest printed, or else from its image."""
    family, version = firmware_name(bytes(machine.debugcon), bytes(machine.console), firmware)
    if version == "unknown":
        version = image_version(firmware_image(firmware))
    survey.firmware = f"{family} {version}"
