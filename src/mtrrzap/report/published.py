"""The published request counts: cover letter of v4 of the series (14 July 2023), 16 GiB guests."""

import csv
from functools import cache
from importlib.resources import files

from mtrrzap.guest.trace import Header


@cache
def _counts() -> dict[tuple[str, int], dict[str, int]]:
    text = files("mtrrzap").joinpath("data/published.csv").read_text(encoding="utf-8")
    found: dict[tuple[str, int], dict[str, int]] = {}
    for row in csv.DictReader(text.splitlines()):
        guest = found.setdefault((row["guest"], int(row["vcpus"])), {})
        guest[row["row"]] = int(row["zap_requests"])
    return found


def requests(header: Header) -> dict[str, int]:
    """Return the published numbers of zap requests of such a guest by row; empty if there are none.

    The guest is told by its firmware's family and its number of vCPUs.
    """
    return _counts().get((header.family, header.vcpus), {})
