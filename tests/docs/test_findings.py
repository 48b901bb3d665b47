from helpers.paths import ROOT
from mtrrzap.report.findings import findings

PAGE = ROOT / "docs" / "findings.md"


def test_the_page_is_up_to_date() -> None:
    assert findings() == PAGE.read_text(encoding="utf-8"), "run: mtrrzap check --findings"
