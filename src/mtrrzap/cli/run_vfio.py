"""``mtrrzap run --vfio GROUP``: KVM itself makes the zaps, on this host."""

import platform
import sys
from pathlib import Path
from typing import NamedTuple

from mtrrzap.cli.progress import working
from mtrrzap.errors import UserError
from mtrrzap.guest.trace import Trace
from mtrrzap.kernel import image, policy_file, program
from mtrrzap.kernel.calls import calls
from mtrrzap.kernel.judge import beside, host_of, judge
from mtrrzap.kernel.monitor import Settings
from mtrrzap.kernel.perform import Task, perform
from mtrrzap.report import kernel as report
from mtrrzap.report import text


class Chosen(NamedTuple):
    """The options that this command shares with the other ways to run."""

    group: int
    memory: int
    huge: bool
    quirk: bool
    walks: bool


def run_vfio(
    name: str, trace: Trace, chosen: Chosen, policies: list[str] | None, *, json: bool
) -> int:
    """Run the trace, print what the kernel did, and return the exit status."""
    if policies and len(policies) > 1:
        raise UserError("one policy at a time with --vfio", place="--policy")
    here = image.Kernel(Path(), Path(platform.release()))
    policy = policy_file.named(policies[0]) if policies else policy_file.of_version(here.version)
    made = program.of(trace, chosen.memory)
    header = trace.header
    settings = Settings(
        header.vcpus, header.maxphyaddr, chosen.quirk, chosen.group, chosen.memory, chosen.huge
    )
    walks = chosen.walks
    task = Task(name, settings, made.ops, touch=walks, leaves=walks, visits=walks)
    with working(f"the kernel makes the events of {name}"):
        record = perform(task)
    host = host_of(record, quirk=chosen.quirk)
    verdict = judge(made.trace, record, policy, host)
    compared = beside(made.trace, calls(record.trace), record.refused, policy, host)
    if not verdict.calls and not verdict.requests:
        raise UserError(
            f"{policy.name} has no request on {record.second_stage}, and the kernel made no call",
            place=f"Linux {record.kernel}",
            mend="Linux zaps up to 6.6 on EPT and NPT, up to 6.10 on EPT",
        )
    rows = [each for each in compared if each.calls or each.ask]
    if json:
        sys.stdout.write(text.as_json(report.run_data(name, record, policy, verdict, rows)))
    else:
        report.print_run(text.console(), name, record, policy, verdict, rows, walks=walks)
    return int(bool(verdict.differences))
