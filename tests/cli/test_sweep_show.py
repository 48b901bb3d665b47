"""Tables, SQL, plots and pages of results, complete or not."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from helpers.cli import Run
from helpers.sweeps import CHECK, SIMULATE, run_inline
from mtrrzap.sweep.query import Results

POLICIES = ("Base2", "Base2+9", "ticket")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    text = SIMULATE.replace("[8, 9]", "[8, 16, 32]").replace("kind", 'title = "Three"\nkind', 1)
    run_inline(folder, text, folder / "results")
    return folder / "results"


def test_the_table_is_the_rows(run: Run, simulated: Path) -> None:
    out = run("sweep", "show", str(simulated)).out
    assert "Three: 72 cells, 54 done, 18 refused." in out
    assert "18 refused: memory: a variable MTRR of the trace covers" in out
    sql = (
        "SELECT modelled_cycles AS c FROM cells WHERE trace = 'ovmf-8' AND vcpus = 8 AND seed = 0 "
        "AND policy = 'ticket' AND status = 'done'"
    )
    (row,) = json.loads(run("sweep", "show", str(simulated), "--sql", sql, "--json").out)
    section = out.split("ovmf-8, 16 GiB: modelled Mcycles by vCPUs")[1]
    (line,) = [line for line in section.splitlines() if line.startswith("│ ticket")]
    assert float(line.split("│")[2].replace(",", "")) == float(f"{row['c'] / 1e6:.3g}")


def test_formats_agree(run: Run, simulated: Path) -> None:
    shown = ("sweep", "show", str(simulated))
    rows = json.loads(run(*shown, "--json").out)
    from_csv = list(csv.DictReader(io.StringIO(run(*shown, "--csv").out)))
    assert len(rows) == len(from_csv) == 72
    for left, right in zip(rows, from_csv, strict=True):
        assert {k: "" if v is None else str(v) for k, v in left.items()} == right


def test_wrong_sql_is_one_line(run: Run, simulated: Path) -> None:
    ran = run("sweep", "show", str(simulated), "--sql", "SELECT frob FROM cells")
    assert ran.status == 2
    assert len(ran.err.splitlines()) == 1
    assert "frob" in ran.err
    assert "tables are cells and timing" in ran.err


def test_plots_are_svg_and_come_out_the_same_twice(
    run: Run, simulated: Path, tmp_path: Path
) -> None:
    for folder in ("a", "b"):
        assert run("sweep", "show", str(simulated), "--plots", str(tmp_path / folder)).status == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["ovmf-8-16GiB.svg", "seabios-8-16GiB.svg", "seabios-8-1TiB.svg"]
    for name in names:
        text = (tmp_path / "a" / name).read_text()
        assert text == (tmp_path / "b" / name).read_text()
        words = [each.text for each in ElementTree.fromstring(text).iter() if each.text]
        assert set(POLICIES) <= set(words)
        assert "vCPUs" in words


def test_crossings_are_named_in_table_plot_and_page(
    run: Run, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = tmp_path_factory.mktemp("crossing")
    text = SIMULATE.replace("[8, 9]", "[8, 16, 32]")
    text = text.replace('"Base2", "+9", "ticket"', '"+9+10+11", "+12"')
    run_inline(folder, text, folder / "results")
    page = tmp_path / "page.md"
    assert run("sweep", "show", str(folder / "results"), "--page", str(page)).status == 0
    table = run("sweep", "show", str(folder / "results")).out
    in_table = re.findall(
        r"│ seabios-8, 16 GiB +│ ([\d,]+ \(.*?\)|[\d,]+) +│ (\S+) +│ (\S+) +│", table
    )
    text = page.read_text()
    section = text.split("### seabios-8, 16 GiB")[1].split("###")[0]
    in_page = re.findall(
        r"From about (.*) vCPUs(?: (\(.*?\)))? `(.*)` is cheaper than `(.*)` ", section
    )
    assert [(a if not r else f"{a} {r}", *rest) for a, r, *rest in in_page] == in_table
    assert in_table
    plot = (tmp_path / re.findall(r"\((page.*?\.svg)\)", section)[0]).read_text()
    for number, (at, above, below) in enumerate(in_table, 1):
        count, *spread = at.split(" ", 1)
        where = f"{count} vCPUs{' ' + spread[0] if spread else ''}"
        assert re.search(f">{number}: from {re.escape(where)}<", plot)
        assert f">{above} below {below}<" in plot
    linked = re.findall(r"\((page[^)]*\.svg)\)", text)
    assert sorted(linked) == sorted(path.name for path in tmp_path.glob("*.svg"))


def test_the_page_answers(run: Run, simulated: Path, tmp_path: Path) -> None:
    run("sweep", "show", str(simulated), "--page", str(tmp_path / "p.md"))
    text = (tmp_path / "p.md").read_text()
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings == [
        "Where serialisation starts to pay",
        "What remains",
        "Cost against vCPUs",
        "Cells without a figure",
    ]
    sql = "SELECT policy, modelled_cycles AS c FROM cells WHERE trace='ovmf-8' AND vcpus=8 AND "
    sql += "seed=0 AND status='done'"
    found = json.loads(run("sweep", "show", str(simulated), "--sql", sql, "--json").out)
    cycles = {row["policy"]: row["c"] for row in found}
    (line,) = [
        x for x in text.split("## What")[0].splitlines() if x.startswith("| ovmf-8 | 16 GiB")
    ]
    ratio = cycles["Base2"] / cycles["Base2+9"]
    assert line.split(" | ")[3] == f"**{ratio:.3g}**"


def test_a_swarm(run: Run, tmp_path: Path) -> None:
    run_inline(tmp_path, CHECK, tmp_path / "results")
    lines = run("sweep", "show", str(tmp_path / "results")).out.splitlines()
    cells = [re.split(r"\s*│\s*", line.strip("│ ")) for line in lines if line.startswith("│")]
    assert [row[:6] for row in cells] == [
        ["v4", "4", "1", "pct", "3", "3"],
        ["v4", "4", "1", "random", "3", "0"],
        ["ticket", "4", "1", "pct", "3", "0"],
        ["ticket", "4", "1", "random", "3", "0"],
    ]
    assert cells[0][6:] == ["44", "1,251", "10", "20"]
    ran = run("sweep", "show", str(tmp_path / "results"), "--plots", str(tmp_path))
    assert (ran.status, "plots need kind simulate" in ran.err) == (2, True)


def test_what_is_not_complete(run: Run, tmp_path: Path) -> None:
    results = tmp_path / "results"
    assert "no sweep in this folder" in run("sweep", "show", str(results)).err
    state, _ = run_inline(tmp_path, SIMULATE, results, stop_after=9)
    count = ("--sql", "SELECT count(*) AS n, count(DISTINCT number) AS d FROM cells", "--json")
    (row,) = json.loads(run("sweep", "show", str(results), *count).out)
    assert row == {"n": state.new, "d": state.new}
    first, *_ = sorted((results / "parts").iterdir())
    (results / "parts/part-99999999.parquet").write_bytes(first.read_bytes())  # a merge cut short
    assert json.loads(run("sweep", "show", str(results), *count).out) == [row]
    first.write_bytes(b"rubbish")
    ran = run("sweep", "show", str(results), *count)
    assert json.loads(ran.out) == [row]
    assert f"{first} is damaged and skipped" in ran.err
    assert "48 cells" in run("sweep", "show", str(results)).out


def test_parts_that_are_merged_while_it_asks_are_found_again(tmp_path: Path) -> None:
    """A sweep that is running merges its small parts now and then."""
    results = tmp_path / "results"
    state, _ = run_inline(tmp_path, SIMULATE, results, stop_after=9)
    asked = Results(results)
    for part in sorted((results / "parts").iterdir()):
        part.rename(part.with_name(f"part-1{part.name[-15:]}"))
    assert asked.ask("SELECT count(*) FROM cells").rows == [(state.new,)]
