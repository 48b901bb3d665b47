"""``mtrrzap audit``: exit status, one row for equal findings, and that JSON has everything."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import guests
from mtrrzap.cli import main as cli
from mtrrzap.guest.open import scenarios
from mtrrzap.guest.trace import dumps
from mtrrzap.kvm.audit import audit
from mtrrzap.kvm.policy import by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.report import audit_rows as report
from mtrrzap.study.compare import rows

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mtrrzap", *args])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0), capsys.readouterr().out

    return call


def test_a_defect_is_exit_status_1(run: Run) -> None:
    status, out = run("audit", "range-moves", "-p", "Base2", "-p", "+9+10")
    assert status == 1
    assert out.count("Stale under") == 1
    assert "Stale under Base2, Base2+9+10" in out
    assert "[0x80000, 0xc0000)" in out
    assert "5: 0 wrmsr 0x200 0x40000000" in out
    status, out = run("audit", "range-moves", "-p", "v6.11")
    assert (status, "Stale under" in out) == (0, False)


def test_what_only_windows_hold_is_listed_on_demand(run: Run) -> None:
    for options, tables in (([], 0), (["--windows"], 1)):
        status, out = run("audit", "fe-is-clear", "-p", "v6.7", *options)
        assert (status, out.count("Stale under")) == (0, tables)
        assert "window only (1 part, event 1)" in out


def test_page_size_and_host_options(run: Run) -> None:
    scenario = ("audit", "huge-page-over-a-small-range", "-p", "+12")
    assert run(*scenario)[0] == 1
    assert run(*scenario, "--page-size", "4K")[0] == 0
    assert run("audit", "cd-types-outlive-the-window", "-p", "v6.1", "--no-quirk")[0] == 0


def test_json_has_everything(run: Run, tmp_path: Path) -> None:
    made = guests.seabios(2)
    path = tmp_path / "boot.trace"
    path.write_text(dumps(made))
    status, out = run("audit", str(path), "-p", "v6.1", "--json")
    (found,) = json.loads(out)
    result = audit(made, by_name("v6.1"))
    assert status == 1
    assert len(found["findings"]) == len(result.findings) == 20
    assert found["defects"] == sum(f["defect"] for f in found["findings"]) == 15
    assert found["findings"][-1] == {
        "range": [0x100000, 0x440000],
        "type": "WB+IPAT",
        "now": ["WB"],
        "begin": len(made.events) - 1,
        "end": None,
        "zapped": False,
        "quiet": [[len(made.events) - 1, None]],
        "defect": True,
    }
    assert len(found["needs"]) == found["requests"] == 14
    assert found["incomplete"] is None


def test_json_says_that_a_trace_is_incomplete(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cut.trace"
    path.write_text(dumps(replace(guests.seabios(2), incomplete="cut")))
    _, out = run("audit", str(path), "--json")
    assert {each["incomplete"] for each in json.loads(out)} == {"cut"}


def test_rows_of_equal_events_are_one() -> None:
    made = guests.seabios(8)
    found = audit(made, by_name("v6.1"))
    shown = report.stale(found.defects, made)
    assert [(row.stale, row.right, row.times, row.gfns.count("\n") + 1) for row in shown] == [
        ("WB+IPAT", "WB", 9, 3),
        ("WB+IPAT", "WP", 9, 1),
        ("WB+IPAT", "UC", 9, 1),
    ]
    assert {row.until for row in shown} == {"the end"}


def test_compare_shows_the_verdict() -> None:
    scenario = dict(scenarios())["range-moves"]
    (row,) = rows([("x", scenario)], [by_name("Base2")], Host(), page_level=3)
    assert (row.verdict, row.entries, row.visits) == ("stale (1 part, event 5)", 10, 1_284)
