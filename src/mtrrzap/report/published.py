"""The published request counts: cover letter of v4 of the series (14 July 2023), 16 GiB guests."""

import csv
from functools import cache
from importlib.resources import files


@cache
def _counts() -> dict[tuple[str, int, str], int]:
    text = files("mtrrzap").joinpath("data/published.csv").read_text(encoding="utf-8")
    return {
        (row["guest"], int(row["vcpus"]), row["row"]): int(row["zap_requests"])
        for row in csv.DictReader(text.splitlines())
    }


def requests(family: str, vcpus: int, policy: str) -> int | None:
    """Return the published number of zap requests for a guest and a row, or None."""
    return _counts().get((family, vcpus, policy))
