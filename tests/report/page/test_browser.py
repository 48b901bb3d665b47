"""The page in a real browser: no error, every mark, pointing, keys, sorting, light and dark."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import browser as driver
from helpers.browser import Browser
from helpers.pages import hostile_trace, long_trace, page_of, shipped

MARKS = "return document.querySelectorAll('#t0-lanes .lane path.m').length"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if why := driver.missing():
        pytest.skip(why)
    with driver.started(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def ovmf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "ovmf-8.html"
    path.write_text(page_of(("ovmf-8", shipped("ovmf-8")), policy="Base2+9"), encoding="utf-8")
    return path


def opened(browser: Browser, page: Path) -> None:
    browser.scheme("light")
    browser.open(page)
    assert browser.run("return document.documentElement.dataset.ready") == "yes"
    assert browser.errors() == []


def test_opens_with_as_many_marks_as_events(browser: Browser, ovmf: Path) -> None:
    opened(browser, ovmf)
    assert browser.run(MARKS) == 1348
    assert browser.run(MARKS.replace("lanes", "requests", 1)) == 74
    # A document, and nothing else, was loaded.
    assert browser.run("return performance.getEntriesByType('resource').length") == 0
    # The page never scrolls sideways; wide things scroll in themselves.
    wide = "return document.documentElement.scrollWidth <= innerWidth"
    assert browser.run(wide)


def test_pointing_shows_the_event(browser: Browser, ovmf: Path) -> None:
    opened(browser, ovmf)
    for _ in range(4):  # two marks may share a pixel otherwise
        browser.click("#t0-lanes [data-zoom='2']")
    for index in (0, 500, 749, 750, 1347):
        browser.hover(f"#t0-lanes path.m[data-i='{index}']")
        event = shipped("ovmf-8").events[index]
        shown = browser.run("return document.getElementById('tip').textContent")
        assert shown.startswith(f"{index}: {event.vcpu} {event.kind.value}")
        assert browser.run("return document.getElementById('tip').hidden") is False
        output = browser.run("return document.querySelector('#t0-lanes output').textContent")
        assert output == shown
    browser.click("#t0-lanes [data-zoom='0']")
    browser.hover("#t0-lanes path.m[data-i='5']")
    assert browser.run("return document.getElementById('tip').hidden") is False
    browser.hover("h1")
    assert browser.run("return document.getElementById('tip').hidden") is True
    assert browser.errors() == []


def test_pointing_at_a_zap_or_a_wait_shows_its_request(browser: Browser, ovmf: Path) -> None:
    opened(browser, ovmf)
    marks = "return document.querySelectorAll('#t0-served .lane path.m').length"
    assert browser.run(marks) == 74
    tip = "return document.getElementById('tip').textContent"
    for look, word in (("wait", "waits for vCPU "), ("zap", "zaps [0x0, ")):
        browser.hover(f"#t0-served rect.span.{look}")
        line = "return document.querySelector(arguments[0]).dataset.line"
        index = browser.run(line, f"#t0-served rect.span.{look}")
        shown = browser.run(tip)
        assert "modelled: " in shown
        assert word in shown
        current = "return document.querySelector('.m.current').dataset.i"
        assert browser.run(current) == index
    assert browser.errors() == []


def test_the_keyboard_reaches_every_mark(browser: Browser, ovmf: Path) -> None:
    opened(browser, ovmf)
    where = "return document.activeElement.dataset.i ?? document.activeElement.tagName"
    browser.run("document.querySelector('#t0-lanes [data-zoom=\"0\"]').focus()")
    browser.press("Tab")
    assert browser.run(where) == "0"  # the first lane's way in ...
    browser.press("Tab")
    assert browser.run(where) == "1"  # ... and the second one's
    lane = [n for n, event in enumerate(shipped("ovmf-8").events) if event.vcpu == 1]
    seen = [1]
    for _ in lane[1:20]:
        browser.press("Right")
        seen.append(int(browser.run(where)))
    assert seen == lane[:20]
    browser.press("End")
    assert int(browser.run(where)) == lane[-1]
    browser.press("Down")
    assert shipped("ovmf-8").events[int(browser.run(where))].vcpu == 2
    label = browser.run("return document.activeElement.getAttribute('aria-label')")
    assert label == browser.run("return document.getElementById('tip').textContent")
    assert browser.errors() == []


def test_tables_sort(browser: Browser, ovmf: Path) -> None:
    opened(browser, ovmf)
    column = (
        "return [...document.querySelectorAll('#t0-policies tbody tr')]"
        ".map((row) => +row.cells[4].dataset.v)"
    )
    button = "#t0-policies th:nth-child(5) button"
    before = browser.run(column)
    browser.click(button)
    assert browser.run(column) == sorted(before, reverse=True) != before
    assert browser.run(
        "return document.querySelector('#t0-policies th:nth-child(5)').ariaSort"
    ) == ("descending")
    browser.click(button)
    assert browser.run(column) == sorted(before)
    browser.run("document.querySelector('#t0-policies th button').focus()")
    browser.press("Enter")
    names = (
        "return [...document.querySelectorAll('#t0-policies td:first-child')]"
        ".map((cell) => cell.textContent)"
    )
    found = browser.run(names)
    assert found[0] == "Base1"
    assert len(found) == 14


def test_light_and_dark(browser: Browser, ovmf: Path) -> None:
    opened(browser, ovmf)
    colours = (
        "const found = getComputedStyle(document.body);"
        "return [found.backgroundColor, found.color].map((text) =>"
        " text.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0))"
    )
    paper, ink = browser.run(colours)
    assert paper > 700 > 200 > ink
    picture(browser, "report-light.png")
    browser.scheme("dark")
    paper, ink = browser.run(colours)
    assert paper < 200 < 600 < ink
    picture(browser, "report-dark.png")


def test_3000_events_by_time(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "long.html"
    page.write_text(page_of(("long", long_trace())), encoding="utf-8")
    opened(browser, page)
    assert browser.run(MARKS) == 3000
    browser.click("#t0-lanes [data-scale=time]")
    path = "return document.querySelector(\"#t0-lanes path.m[data-i='1500']\").getAttribute('d')"
    # Time stamps grow with the square of the position: half of the events take a quarter of it.
    place = float(browser.run(path)[1:].partition("v")[0].split(" ")[0])
    assert place == pytest.approx(3000 * (1500 / 2999) ** 2)
    browser.hover("#t0-lanes path.m[data-i='2900']")
    assert browser.run("return document.getElementById('tip').textContent").startswith("2900: ")
    browser.click("#t0-lanes [data-scale=order]")
    assert browser.run(path).startswith("M1500.5 ")
    browser.click("#t0-lanes [data-zoom='2']")
    assert browser.run(
        "const box = document.querySelector('#t0-lanes .scroll');"
        "return box.scrollWidth > 1.9 * box.clientWidth"
    )
    browser.click("#t0-lanes .listing summary")
    browser.run("return new Promise((done) => setTimeout(done, 0))")
    listed = (
        "return document.querySelector('#t0-lanes .listing pre').textContent.split('\\n').length"
    )
    assert browser.run(listed) == 3000
    assert browser.errors() == []


def test_hostile_headers_do_nothing(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "hostile.html"
    page.write_text(page_of(("x", hostile_trace())), encoding="utf-8")
    opened(browser, page)
    assert browser.run("return window.pwned === undefined") is True
    assert browser.run("return document.images.length") == 0
    assert browser.run("return document.scripts.length") == 2


BROKEN = """
return [...document.querySelectorAll("td, th")].filter((cell) => {
  const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode;
    for (const word of text.data.matchAll(/[^\\s]{1,24}/g)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      const tops = [...range.getClientRects()].map((box) => Math.round(box.top));
      if (new Set(tops).size > 1) return true;
    }
  }
  return false;
}).map((cell) => cell.textContent)
"""
"""Cells in which a word stands on two lines."""
COVERED = """
const apart = (a, b) => a.right <= b.left || b.right <= a.left
  || a.bottom <= b.top || b.bottom <= a.top;
return [...document.querySelectorAll(".axis")].filter((axis) => {
  const box = axis.getBoundingClientRect();
  const boxes = [...axis.children].map((each) => each.getBoundingClientRect());
  const seen = boxes.filter((each) => each.width);
  return seen.some((one, n) => one.right > box.right + 1 || one.bottom > box.bottom + 1
    || seen.slice(n + 1).some((other) => !apart(one, other)));
}).length
"""
"""Axes of which a label is cut off, or covers another."""


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_cut(browser: Browser, ovmf: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.devtools("Emulation.setDeviceMetricsOverride", **size)
    try:
        opened(browser, ovmf)
        assert browser.run("return document.documentElement.scrollWidth") == width
        assert browser.run(BROKEN) == []
        assert browser.run(COVERED) == 0
        wide = "return [...document.querySelectorAll(arguments[0])].filter(arguments[1])"
        cut = f"{wide.replace('arguments[1]', '(e) => e.scrollHeight > e.clientHeight')}.length"
        assert browser.run(cut, "nav, .toolbar, .labels") == 0
        if width >= 1280:
            cut = cut.replace("Height", "Width")
            assert browser.run(cut, ".table") == 0
    finally:
        browser.devtools("Emulation.clearDeviceMetricsOverride")


def test_prints(browser: Browser, ovmf: Path) -> None:
    opened(browser, ovmf)
    browser.devtools("Emulation.setEmulatedMedia", media="print")
    seen = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert browser.run(seen, "nav") == "none"
    assert browser.run(seen, "#t0-lanes svg") != "none"
    browser.devtools("Emulation.setEmulatedMedia", media="")
    sheets = browser.devtools("Page.printToPDF", printBackground=True)
    assert len(sheets["data"]) > 50_000


def picture(browser: Browser, name: str) -> None:
    """Leave a picture of the page, an event pointed at, where CI collects them.

    The light one is docs/report.png.
    """
    folder = os.environ.get("MTRRZAP_ARTEFACTS")
    if not folder:
        return
    browser.size(1400, 1880)  # down to who zapped and who waited
    browser.hover("#t0-lanes path.m[data-i='750']")
    browser.run("scrollTo(0, 0)")
    origin = browser.run(
        "const mark = document.querySelector(\"#t0-lanes path.m[data-i='750']\");"
        "const box = mark.getBoundingClientRect();"
        "return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)]"
    )
    browser.point(*origin)
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, name).write_bytes(browser.screenshot())
    browser.size(*driver.SIZE)
