"""A headless Chromium, driven through chromedriver's own protocol (W3C WebDriver over HTTP).

The few commands that the tests need are a dozen lines of ``urllib``; no client library is worth it.
"""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIZE = (1400, 1450)
"""Of the window, in pixels."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which WebDriver names an element."""
KEYS = {"Tab": "\ue004", "End": "\ue010", "Home": "\ue011", "Left": "\ue012"}
KEYS |= {"Up": "\ue013", "Right": "\ue014", "Down": "\ue015", "Enter": "\ue007"}


def missing() -> str | None:
    """Say what is not installed, or None."""
    for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if shutil.which(program) is None:
            return f"no {program} (Debian: apt install {package})"
    return None


class Browser:
    """One window."""

    def __init__(self, base: str, profile: Path) -> None:
        self._base = base
        options = {
            "binary": shutil.which("chromium"),
            "args": [*FLAGS, f"--user-data-dir={profile}", f"--window-size={SIZE[0]},{SIZE[1]}"],
        }
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from error

    def post(self, path: str, **body: object) -> Any:
        return self._call("POST", self._session + path, body)

    def open(self, page: Path) -> None:
        self.post("/url", url=page.absolute().as_uri())

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page; ``return`` gives a value."""
        return self.post("/execute/sync", script=script, args=list(arguments))

    def devtools(self, command: str, **parameters: object) -> Any:
        return self.post("/goog/cdp/execute", cmd=command, params=parameters)

    def errors(self) -> list[str]:
        """What the console has said since the last call."""
        return [entry["message"] for entry in self.post("/se/log", type="browser")]

    def find(self, css: str) -> dict[str, str]:
        found: dict[str, str] = self.post("/element", using="css selector", value=css)
        return found

    def hover(self, css: str) -> None:
        """Move the pointer to an element's middle."""
        found = self.find(css)
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", found)
        move = {"type": "pointerMove", "duration": 0, "x": 0, "y": 0, "origin": found}
        self._act("pointer", [move])

    def point(self, x: int, y: int) -> None:
        """Move the pointer to a place in the window."""
        self._act("pointer", [{"type": "pointerMove", "duration": 0, "x": x, "y": y}])

    def press(self, *names: str) -> None:
        """Press and release keys, by name."""
        keys = [KEYS[name] for name in names]
        kinds = ("keyDown", "keyUp")
        self._act("key", [{"type": kind, "value": key} for key in keys for kind in kinds])

    def click(self, css: str) -> None:
        self.post(f"/element/{self.find(css)[ELEMENT]}/click")

    def _act(self, kind: str, actions: list[dict[str, object]]) -> None:
        self.post("/actions", actions=[{"type": kind, "id": kind, "actions": actions}])

    def scheme(self, name: str) -> None:
        """Prefer ``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def size(self, width: int, height: int) -> None:
        self.post("/window/rect", width=width, height=height)

    def screenshot(self) -> bytes:
        shot = self._call("GET", self._session + "/screenshot")
        return base64.b64decode(shot)

    def close(self) -> None:
        self._call("DELETE", self._session)


@contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """Start chromedriver and a Chromium with a new profile; stop both at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder / "chromedriver.log").open("wb")
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=log, stderr=log)
    try:
        _wait(port, driver)
        browser = Browser(f"http://127.0.0.1:{port}", folder / "profile")
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(timeout=20)
        log.close()


def _wait(port: int, driver: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert driver.poll() is None, "chromedriver ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("chromedriver does not listen after 30 s")
