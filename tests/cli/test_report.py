"""``mtrrzap report``: where the page goes, and what it refuses."""

from pathlib import Path

import pytest

from helpers.captures import FOLDER
from helpers.cli import Run
from helpers.pages import Page


def test_writes_a_page(run: Run, file: Path, tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    ran = run("report", str(file), "ovmf-8", "-o", str(page), "-p", "+9", "--no-quirk")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"{page}: 2 traces, 1,")
    found = Page(page.read_text(encoding="utf-8"))
    assert found.text("h2") == ["boot", "ovmf-8", "Every interleaving of “v4”"]
    assert any("QUIRK_CD_NW_CLEARED off" in text for text in found.text("p"))


def test_overwrites_only_by_force(run: Run, file: Path, tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    page.write_text("precious")
    ran = run("report", str(file), "-o", str(page))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == (
        f"mtrrzap: --output: {page} exists already; choose another name, or add --force\n"
    )
    assert page.read_text() == "precious"
    assert run("report", str(file), "-o", str(page), "--force").status == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_shows_what_import_measured(run: Run, tmp_path: Path) -> None:
    boot = tmp_path / "boot.trace"
    assert run("import", str(FOLDER / "all-events-report.txt.xz"), "-o", str(boot)).status == 0
    page = tmp_path / "out.html"
    assert run("report", str(boot), "-o", str(page)).status == 0
    found = Page(page.read_text(encoding="utf-8"))
    assert "68 successful MTRR writes took 10,878.0 µs" in "".join(found.text("p", "note"))
    assert "#t0-costs" in [link["href"] for link in found.all("a")]
    assert page.read_text(encoding="utf-8").count("from exit to entry") >= 68
    costs = tmp_path / "boot.costs.csv"
    costs.write_text(costs.read_text().replace("3,0,767,", "3,0,766,"))
    ran = run("report", str(boot), "-o", str(page), "--force")
    assert ran.err.startswith(f"mtrrzap: {costs}: its line of event 3 does not fit the trace; ")
    costs.write_bytes(bytes(range(256)))
    ran = run("report", str(boot), "-o", str(page), "--force")
    assert (ran.status, ran.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (
            ("-o", "/no/where.html"),
            "/no/where.html: cannot be written: No such file or directory; ",
        ),
        (("-o", "/", "--force"), "/: cannot be written: Is a directory; "),
        (("-p", "v7"), "--policy: no policy 'v7'; known are: "),
    ],
)
def test_errors_are_one_line(run: Run, file: Path, args: tuple[str, ...], line: str) -> None:
    ran = run("report", str(file), *args)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"mtrrzap: {line}")
