"""How large a page of 3,000 events is, and how soon it can be used in Chromium.

Run: ``python benchmarks/report_page.py`` (needs chromium and chromium-driver). *Usable* is the time
from the start of the navigation until the page's script has run and one more frame has been drawn;
*a hover* and *a sort* are the times until the frame after them.
"""

import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import browser

from helpers.pages import long_trace, page_of

_FRAME = "return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))"


def main() -> None:
    if why := browser.missing():
        raise SystemExit(why)
    begin = time.perf_counter()
    text = page_of(("long", long_trace(3000)), policy="Base2+9")
    made = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(text, encoding="utf-8")
        with browser.started(Path(folder)) as chromium:
            chromium.open(page)
            chromium.run(_FRAME)
            taken = sorted(timed(chromium, page) for _ in range(7))[3]
    print(f"3,000 events: {len(text.encode()) / 1e6:.2f} MB, made in {made:.2f} s")
    print("median of 7: usable after {:.2f} s, a hover {:.3f} s, a sort {:.3f} s".format(*taken))


def timed(chromium: browser.Browser, page: Path) -> tuple[float, float, float]:
    stamps = [time.perf_counter()]
    chromium.open(page)
    chromium.run(_FRAME)
    stamps.append(time.perf_counter())
    chromium.hover("#t0-lanes path.m[data-i='1500']")
    chromium.run(_FRAME)
    stamps.append(time.perf_counter())
    chromium.click("#t0-policies th:nth-child(5) button")
    chromium.run(_FRAME)
    stamps.append(time.perf_counter())
    first, second, third = (b - a for a, b in pairwise(stamps))
    return first, second, third


if __name__ == "__main__":
    main()
