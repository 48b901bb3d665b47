"""What pages quote is what the program prints: docs/regenerate.py would change nothing."""

import runpy
from pathlib import Path

import pytest

from helpers.paths import ROOT

SCRIPT = runpy.run_path(str(ROOT / "docs" / "regenerate.py"))


@pytest.mark.parametrize("page", SCRIPT["PAGES"], ids=lambda page: page.name)
def test_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    timeless = SCRIPT["timeless"]
    assert timeless(SCRIPT["PAGES"][page](text)) == timeless(text), "run: python docs/regenerate.py"
