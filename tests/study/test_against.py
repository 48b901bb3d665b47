"""RAM that is not WB, and devices' memory that is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.listings import E820, IOMEM, OLD_E820, XEN_E820
from helpers.ranges import GIB, UC, with_ranges
from mtrrzap.errors import UserError
from mtrrzap.guest.listing import regions
from mtrrzap.guest.listing.regions import Region, Use
from mtrrzap.study.against import against_regions, uses

HOLE = with_ranges((UC, 3 * GIB, GIB)).write(0x2FF, 0x806)


def found(text: str) -> list[tuple[int, int, str, str]]:
    what, places = regions.read(text, "x")
    return [f[:4] for f in against_regions(HOLE, places, holes=what == "e820")]


def test_iomem() -> None:
    assert found(IOMEM) == [
        (0xC0000000, 0xD0000000, "RAM is not WB", "System RAM"),
        (0x200000000, 0x300000000, "MMIO is WB", "PCI Bus 0000:00"),
    ]


@pytest.mark.parametrize("text", [E820, OLD_E820, XEN_E820])
def test_e820_has_devices_in_its_holes(text: str) -> None:
    assert found(text) == [(0xB1000000, 0xC0000000, "MMIO is WB", "not in e820")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (IOMEM.replace("e0000000-efffffff : Reserved", "e0000000-eff"), "x:8: not a line of /proc"),
        (E820.replace("-0x00000000b0ffffff]", ""), "x:2: not a line of e820"),
        ("00000000-00000000 : System RAM\n", "x:1: all addresses are 0; read /proc/iomem as root"),
    ],
)
def test_errors_name_the_line(text: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        regions.read(text, "x")
    assert str(caught.value).startswith(problem)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20), st.sampled_from(list(Use)))),
    st.booleans(),
)
def test_uses_are_those_of_each_page(listed: list[tuple[int, int, Use]], holes: bool) -> None:
    places = [Region(a << 12, a + n << 12, use, "") for a, n, use in listed]
    parts = list(uses(places, holes=holes))
    for page in range(90):
        inside = {r.use for r in places if r.start <= page << 12 < r.end}
        use = next((u for u in (Use.RAM, Use.DEVICE, Use.OTHER) if u in inside), None)
        if use is None and holes:
            use = Use.DEVICE
        assert next(part.use for part in parts if page << 12 < part.end) is use


@pytest.mark.parametrize(
    ("line", "use"),
    [
        ("BIOS-e820: [mem 0x0000000100000000-0x00000001ffffffff] unusable", Use.OTHER),
        ("BIOS-e820: [mem 0x0000000100000000-0x00000001ffffffff]   4.0 GB System RAM", Use.RAM),
        ("BIOS-e820: [mem 0x0000000100000000-0x00000001ffffffff] persistent (type 7)", Use.OTHER),
        ("100000000-1ffffffff : CXL Window 0", Use.OTHER),
        ("100000000-1ffffffff : dax0.0", Use.OTHER),
        ("100000000-1ffffffff : System RAM (kmem)", Use.RAM),
        ("100000000-1ffffffff : 0000:00:02.0", Use.DEVICE),
    ],
)
def test_what_names_mean(line: str, use: Use) -> None:
    _, places = regions.read(line + "\n", "x")
    assert places == (Region(0x100000000, 0x200000000, use, places[0].name),)


def test_gaps_are_no_regions() -> None:
    gap = "BIOS-e820: [gap 0x00000000a0000000-0x00000000bfffffff]\n"
    assert regions.read(E820 + gap, "x") == regions.read(E820, "x")
