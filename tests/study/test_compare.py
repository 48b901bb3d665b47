"""Rows of the comparison: what is unknown without the guest's memory, and what the kernel did."""

import json
from dataclasses import replace
from pathlib import Path

from helpers.captures import imported, text
from helpers.cli import Run
from mtrrzap.guest.importer import Known
from mtrrzap.guest.trace import Trace, dumps
from mtrrzap.kvm.policy import POLICIES, by_name
from mtrrzap.kvm.replay import Host
from mtrrzap.study.compare import rows

UNKNOWN = ("entries", "visits", "needed", "modelled_mcycles", "modelled_longest_mcycles")
BOOT = imported(text("kprobes-seabios"))


def sized() -> Trace:
    return imported(text("kprobes-seabios"), Known(memory=512 << 20))


def test_figures_that_depend_on_unknown_memory() -> None:
    for row in rows([("x", BOOT)], POLICIES, Host()):
        assert [getattr(row, name) for name in UNKNOWN] == [None] * len(UNKNOWN)
        split = by_name(row.policy).by_memslot
        assert (row.frames is None, row.ranges is None) == (split, split)
    for row in rows([("x", sized())], POLICIES, Host()):
        assert None not in [getattr(row, name) for name in UNKNOWN]


def test_the_kernels_zaps_stand_beside_the_policys() -> None:
    known = {row.policy: row for row in rows([("x", BOOT)], POLICIES, Host(), modelled=False)}
    assert (known["v6.1"].kernel_zaps, known["v6.1"].kernel_difference) == (14, None)
    assert known["Base2"].kernel_zaps == 14
    assert known["Base2"].kernel_difference is not None
    (bare,) = rows([("x", replace(BOOT, zaps=None))], [by_name("v6.1")], Host(), modelled=False)
    assert "kernel_zaps" not in bare.data()
    assert bare.data().keys() == known["v6.1"].data().keys() - {"kernel_zaps", "kernel_difference"}


def test_every_command_says_unknown(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "boot.trace"
    path.write_text(dumps(BOOT))
    ran = run("compare", str(path), "-p", "v6.1")
    assert "14, equal" in ran.out
    assert ran.out.count("the guest's memory is unknown") == 1
    assert "17,179" not in run("compare", str(path), "-p", "v6.1", "--modelled").out
    (row,) = json.loads(run("compare", str(path), "-p", "v6.1", "--json").out)
    assert (row["entries"], row["needed"], row["modelled_mcycles"]) == (None, None, None)
    explained = run("explain", str(path), "-p", "v6.1")
    assert explained.out.count("the guest's memory is unknown") == 1
    found = json.loads(run("explain", str(path), "-p", "v6.1", "--json").out)
    assert (found["cycles"], found["phases"], len(found["requests"])) == (None, None, 14)


def test_show_and_report_have_the_kernels_zaps(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "boot.trace"
    path.write_text(dumps(BOOT))
    assert "the policy asks for the same 14 zaps, range by range" in run("show", str(path)).out
    shown = json.loads(run("show", str(path), "--json").out)["kernel_zaps"]
    assert len(shown["calls"]) == 14
    assert shown["calls"][0]["range"] == [0, (1 << 52) - 1]
    assert shown["policies"]["v6.1"] == {"calls": 14, "others": 0, "difference": None}
    assert run("report", str(path), "-o", str(tmp_path / "page.html")).status == 0
    page = (tmp_path / "page.html").read_text()
    assert "What the kernel itself zapped" in page
    assert "equal, range by range" in page
