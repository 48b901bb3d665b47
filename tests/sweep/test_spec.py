"""A spec that means something is a grid; one that does not is one line: file, key, mend."""

import re

import pytest

from helpers.paths import ROOT
from mtrrzap.errors import UserError
from mtrrzap.kvm.policy import POLICIES
from mtrrzap.sweep.columns import CHECK_COLUMNS, FIRST, LAST, SIMULATE_COLUMNS, TIMING
from mtrrzap.sweep.grid import CheckCell, SimulateCell, cell_of
from mtrrzap.sweep.spec import KEYS, MAX_CELLS, Defaults, read
from mtrrzap.sweep.spec import Spec as ReadSpec

DEFAULTS = Defaults(traces=("a", "b"), protocols=("v4",))
DOC = (ROOT / "docs/sweep.md").read_text(encoding="utf-8")


def spec(text: str) -> ReadSpec:
    return read(text, "s.toml", DEFAULTS)


def test_the_last_axis_varies_fastest() -> None:
    grid = spec('kind = "simulate"\n[grid]\nvcpus = [8, 16]\npolicies = ["Base2", "+9"]').grid
    assert len(grid) == 2 * 2 * 2
    cells = [cell_of(grid, number) for number in range(8)]
    assert len(set(cells)) == 8
    assert cells[0] == SimulateCell("a", 8, None, "4K", 0, "Base2", 1.25)
    assert cells[1] == SimulateCell("a", 8, None, "4K", 0, "Base2+9", 1.25)
    assert cells[6] == SimulateCell("b", 16, None, "4K", 0, "Base2", 1.25)
    assert (grid.stride("trace"), grid.stride("vcpus"), grid.stride("policy")) == (4, 2, 1)


def test_what_is_left_out() -> None:
    grid = spec('kind = "simulate"').grid
    assert len(grid) == 2 * len(POLICIES)
    checked = cell_of(spec('kind = "check"').grid, 1)
    assert isinstance(checked, CheckCell)
    assert (checked.vcpus, checked.executions, checked.seconds) == (2, 1000, None)
    timed = cell_of(spec('kind = "check"\n[grid]\nseconds = 2').grid, 0)
    assert isinstance(timed, CheckCell)
    assert (timed.executions, timed.seconds) == (None, 2.0)


def test_series() -> None:
    def vcpus(series: str) -> list[int]:
        grid = spec(f'kind = "simulate"\n[grid]\nvcpus = {series}').grid
        return list(next(axis.values for axis in grid.axes if axis.name == "vcpus"))

    assert vcpus("{ from = 8, to = 1024, times = 2 }") == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert vcpus("{ from = 8, to = 11 }") == [8, 9, 10, 11]
    assert vcpus("{ from = 8, to = 20, step = 5 }") == [8, 13, 18]
    assert vcpus("12") == [12]


def test_a_huge_grid_takes_no_room() -> None:
    text = 'kind = "check"\n[grid]\nstrategies = "pct"\nseeds = { from = 0, to = 9999999 }'
    grid = spec(text).grid
    assert len(grid) == 10**7
    last = cell_of(grid, 10**7 - 1)
    assert isinstance(last, CheckCell)
    assert last.seed == 10**7 - 1


SIMULATE, CHECK = 'kind = "simulate"\n', 'kind = "check"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", 's.toml: the kind is missing; write kind = "simulate" or kind = "check"'),
        ("kind = 'run'", "s.toml: unknown kind 'run'; write"),
        ("kind = ['check']", r"s.toml: unknown kind \['check'\]; write"),
        ("kind = {a = 1}", "s.toml: unknown kind {'a': 1}; write"),
        (
            "kind = " + "9" * 5000,
            "s.toml: a key: a number of more than 64 bits",
        ),
        ("kind = 0x" + "f" * 5000, "s.toml: kind: a number of more than 64 bits"),
        (
            CHECK + "grid.vcpus = [[{to = 9223372036854775808}]]",
            r"s.toml: grid.vcpus.to: a number of",
        ),
        ("title = " + "[" * 5000, "s.toml: invalid TOML: nested too deeply; flatten it"),
        ("kind = check\n", "s.toml: invalid TOML: .*line 1"),
        ("kind = 'check'\nkind = 'check'\n", "s.toml: invalid TOML: .*line 2"),
        (SIMULATE + "grid = 1", r"s.toml: grid: not a table; write \[grid\]"),
        (SIMULATE + "title = 1", "s.toml: title: not a text"),
        (SIMULATE + "[grids]", "s.toml: grids: unknown key; write grid"),
        (SIMULATE + "[grid]\nvcpu = 8", "s.toml: grid.vcpu: unknown key; write vcpus"),
        (SIMULATE + "[grid]\nseconds = 8", "s.toml: grid.seconds: unknown key"),
        (SIMULATE + "[grid]\nvcpus = []", "s.toml: grid.vcpus: empty; give a value"),
        (SIMULATE + "[grid]\nvcpus = [8, 8]", "s.toml: grid.vcpus: 8 is there twice"),
        (
            SIMULATE + "[grid]\nvcpus = 1",
            "s.toml: grid.vcpus: invalid value 1; give whole numbers from 2",
        ),
        (SIMULATE + "[grid]\nvcpus = true", "s.toml: grid.vcpus: invalid value True"),
        (SIMULATE + "[grid]\nvcpus = 8.0", "s.toml: grid.vcpus: invalid value 8.0"),
        (SIMULATE + "[grid]\nvcpus = nan", "s.toml: grid.vcpus: invalid value nan"),
        (SIMULATE + "[grid]\nvcpus = {from = 8}", "s.toml: grid.vcpus: not a series"),
        (SIMULATE + "[grid]\nvcpus = {from = 9, to = 8}", "the series does not rise"),
        (SIMULATE + "[grid]\nvcpus = {from = 8, to = 9, times = 1}", "does not rise"),
        (SIMULATE + "[grid]\nvcpus = {from = 8, to = nan}", "takes whole numbers only"),
        (SIMULATE + "[grid]\npolicies = '+13'", r"grid.policies: unknown policy '\+13'; known"),
        (SIMULATE + "[grid]\npolicies = ['+9', 'Base2+9']", r"'Base2\+9' is there twice"),
        (
            SIMULATE + "[grid]\nmemory = 16",
            'grid.memory: invalid value 16; write "512M", "64G" or "12T"',
        ),
        (SIMULATE + "[grid]\nmemory = '0G'", "grid.memory: invalid value '0G'; give more than 0"),
        (
            SIMULATE + "[grid]\npage-size = '8K'",
            "grid.page-size: invalid value '8K'; use one of 4K, 2M, 1G",
        ),
        (
            SIMULATE + "[grid]\nseeds = -1",
            "grid.seeds: invalid value -1; give whole numbers from 0",
        ),
        (
            SIMULATE + "[simulate]\nspread = nan",
            "simulate.spread: invalid value nan; give numbers from 1",
        ),
        (CHECK + "[grid]\nseconds = inf", "grid.seconds: invalid value inf"),
        (
            CHECK + "[grid]\nseconds = 1\nexecutions = 1",
            "grid.seconds: cannot be combined with grid.executions",
        ),
        (
            CHECK + "[grid]\nstrategies = 'bfs'",
            "grid.strategies: invalid value 'bfs'; use one of pct, random",
        ),
        (
            CHECK + "[check]\nproperties = 'starvation'",
            "check.properties: invalid value 'starvation'; use",
        ),
        (
            CHECK + "[check]\nproperties = []",
            "check.properties: empty, or a property is there twice",
        ),
        (CHECK + "[check]\nranges = '5'", "check.ranges: invalid value '5'; write"),
        (CHECK + "[check]\nranges = '5-5'", "check.ranges: not a range of gfns"),
        (
            CHECK + "[check]\nalloc-fails = 1",
            "check.alloc-fails: invalid value 1; write true or false",
        ),
        (CHECK + "[check]\nmemory-model = 'arm'", "invalid value 'arm'; use one of sc, tso"),
        (
            CHECK + "[grid]\nseeds = {from = 0, to = 999999999}",
            f"grid: 2,000,000,000 cells; ask for at most {MAX_CELLS:,}",
        ),
    ],
)
def test_what_means_nothing(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        spec(text)
    assert str(caught.value).startswith("s.toml: ")


@pytest.mark.parametrize("kind", KEYS)
def test_the_reference_lists_every_key(kind: str) -> None:
    section = DOC.split(f'`kind = "{kind}"`')[1].split("\n### ")[0]
    listed = re.findall(r"^\| `([\w.-]+)` \| (.*) \|$", section, re.MULTILINE)
    axes, settings = KEYS[kind]
    wanted = [(f"grid.{key.name}", key.says) for key in axes]
    assert listed == wanted + [(f"{kind}.{key.name}", key.says) for key in settings]


def test_the_reference_lists_every_column() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", DOC, re.MULTILINE)
    wanted = [*FIRST, *LAST, *SIMULATE_COLUMNS, *CHECK_COLUMNS, *TIMING]
    assert listed == [(column.name, column.unit, column.says) for column in wanted]
