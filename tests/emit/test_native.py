"""The C on threads, at native speed: nothing lost by those that hold, and by v4 with a window."""

import shutil

import pytest

from mtrrzap.emit import native
from mtrrzap.emit.native import storm
from mtrrzap.errors import UserError
from mtrrzap.protocol import PROTOCOLS

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

WINDOW = ("-DKVM_MTRR_WINDOW=50000",)
"""Nanoseconds before a flag is cleared."""


@pytest.mark.parametrize("name", ["direct", "sketch", "review", "ticket"])
@pytest.mark.parametrize("flags", [(), WINDOW], ids=["as is", "window"])
def test_nothing_is_lost(name: str, flags: tuple[str, ...]) -> None:
    counts = storm(PROTOCOLS[name], 8, 500, one_in_fails=10, zap_ns=1000, flags=flags)
    assert counts[:2] == (8, 4000)
    assert counts.lost == 0
    assert (counts.shared == 0) == (name == "direct")
    assert (counts.failed_allocations == 0) == (name != "sketch")


def test_v4_loses_with_its_window_widened() -> None:
    found = (storm(PROTOCOLS["v4"], 4, 2000, seed=seed, flags=WINDOW).lost for seed in range(20))
    assert any(found)


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_sanitizers_are_silent(name: str, sanitizer: str) -> None:
    flags = ("-g", "-O1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    try:
        counts = storm(PROTOCOLS[name], 4, 100, one_in_fails=5, flags=flags)
    except UserError as error:
        if "cannot find" in str(error) or "unexpected memory mapping" in str(error):
            pytest.skip(f"no sanitizer: {error}")
        raise
    assert counts.requests == 400


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="there is no gcc; install it"):
        native.compiler()
