"""What runs in the emulated host: a device for VFIO, then every task of the job, one by one.

It is started by ``boot`` from the folder that both hosts share, and imports no more than it needs:
every module takes its time there.
"""

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from mtrrzap.errors import UserError
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.perform import StormTask, perform, storm, task_from
from mtrrzap.kernel.tracefs import Probes
from mtrrzap.live.host import environment

DONE = "mtrrzap-done"
"""The first word of a line on the console; the second is how many events are done."""
_TICK = 0.5
"""Seconds between two readings of the ring buffer while a guest boots."""
_ALLOW = Path("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts")
_PCI = Path("/sys/bus/pci")


def main(folder: str) -> None:
    """Do the job in a folder, and leave ``NAME.json`` for each task."""
    job = json.loads(Path(folder, "job.json").read_text(encoding="ascii"))
    group = _bind(job["device"])
    before = 0

    def progress(done: int) -> None:
        print(DONE, before + done, flush=True)

    for data in job["tasks"]:
        task = task_from(data)
        if task.settings.group is not None:
            task = task._replace(settings=task.settings._replace(group=group))
        try:
            result = perform(task, progress)._asdict()
        except UserError as error:
            result = {"error": str(error)}
        Path(folder, f"{task.name}.json").write_text(json.dumps(result), encoding="ascii")
        before += len(task.program)
        progress(0)
    for data in job["storms"]:
        task_ = StormTask(
            **{**data, "settings": Settings(**data["settings"])._replace(group=group)}
        )
        try:
            stormed: dict[str, object] = storm(task_)._asdict()
        except UserError as error:
            stormed = {"error": str(error)}
        Path(folder, f"{task_.name}.json").write_text(json.dumps(stormed), encoding="ascii")
    for data in job["guests"]:
        Path(folder, f"{data['name']}.json").write_text(
            json.dumps(_boot(data, group)), encoding="ascii"
        )
        before += 1
        progress(0)


def _boot(data: dict[str, Any], group: int) -> dict[str, Any]:
    """Let QEMU boot a whole guest, and return what KVM was asked and did, and how QEMU ended."""
    trace = []
    output = Path("/run") / data["name"]
    command = [word.replace("GROUP", str(group)) for word in data["command"]]
    with ExitStack() as stack:
        stream = stack.enter_context(output.open("wb"))
        probes = None
        if data["asked"]:
            probes = stack.enter_context(Probes(asked=True, buffer_kib=1 << 14))
        end = monotonic() + data["seconds"]
        with subprocess.Popen(command, stdout=stream, stderr=stream) as program:
            while program.poll() is None and monotonic() < end:
                sleep(_TICK)
                trace.append(probes.drain() if probes else "")
            program.kill()
        trace.append(probes.drain() if probes else "")
    around = environment()
    return {
        "trace": "".join(trace),
        "status": program.returncode,
        "output": output.read_text("utf-8", "replace"),
        "kernel": around.kernel,
        "second_stage": around.second_stage,
    }


def _bind(device: str) -> int:
    """Give a PCI device to vfio-pci and return the number of its group."""
    _ALLOW.write_text("1", encoding="ascii")  # the virtual IOMMU remaps no interrupts
    (_PCI / "devices" / device / "driver_override").write_text("vfio-pci", encoding="ascii")
    (_PCI / "drivers_probe").write_text(device, encoding="ascii")
    return int((_PCI / "devices" / device / "iommu_group").resolve().name)
