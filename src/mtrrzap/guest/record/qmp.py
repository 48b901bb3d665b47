"""A QMP client: one command at a time, events kept in order until they are taken."""

import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

from mtrrzap.guest.record.qemu import GoneError, Qemu

_PATIENCE = 60.0
"""Seconds for QEMU to answer a command, which it does at once unless the host is overloaded."""


class QmpError(Exception):
    """QEMU refused a command; the text is QEMU's."""


class Qmp:
    """QMP over a machine's channel."""

    def __init__(self, machine: Qemu) -> None:
        """Take the greeting and negotiate. Raises ``GoneError`` if QEMU does not even start."""
        self._machine = machine
        self._buffer = b""
        self._replies: list[Mapping[str, Any]] = []
        self.events: list[Mapping[str, Any]] = []
        self._send = machine.attach("qmp", self._feed)
        self._greeting = self._wait("QMP")
        self.execute("qmp_capabilities")

    @property
    def version(self) -> str:
        """QEMU's version, with its packager's."""
        about = self._greeting["QMP"]["version"]
        number = about["qemu"]
        package = f" ({about['package']})" if about["package"] else ""
        return f"{number['major']}.{number['minor']}.{number['micro']}{package}"

    def _feed(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if line.strip():
                message = json.loads(line)
                (self.events if "event" in message else self._replies).append(message)

    def _wait(self, what: str) -> Mapping[str, Any]:
        until = monotonic() + _PATIENCE
        while not self._replies:
            self._machine.turn(until)
            if monotonic() >= until and not self._replies:
                raise GoneError(f"QEMU does not answer on QMP ({what})")
        return self._replies.pop(0)

    def execute(self, command: str, **arguments: object) -> Any:
        """Run a command and return its result. Raises ``QmpError``, or ``GoneError``."""
        self._send(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        reply = self._wait(command)
        if "error" in reply:
            raise QmpError(f"{command}: {reply['error'].get('desc', reply['error'])}")
        return reply["return"]

    def monitor(self, line: str, cpu: int | None = None) -> str:
        """Run a human monitor command, for vCPU ``cpu``, and return what it prints."""
        arguments: dict[str, object] = {"command-line": line}
        if cpu is not None:
            arguments["cpu-index"] = cpu
        return str(self.execute("human-monitor-command", **arguments))

    def take(self, name: str) -> int:
        """Remove the events ``name`` received so far, and return their number."""
        count = sum(1 for event in self.events if event["event"] == name)
        self.events = [event for event in self.events if event["event"] != name]
        return count

    def ending(self) -> str | None:
        """Return the name of the event that ended the guest's run, or None."""
        final = ("SHUTDOWN", "GUEST_PANICKED")
        return next((str(event["event"]) for event in self.events if event["event"] in final), None)
