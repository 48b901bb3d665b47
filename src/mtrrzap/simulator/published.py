"""The published counts and cycles: cover letter of v4 (14 July 2023), guests with 16 GiB."""

import csv
from functools import cache
from importlib.resources import files

from mtrrzap.guest.trace import Header

Cell = tuple[str, int, str]
"""Guest, number of vCPUs, row."""


@cache
def _cells() -> dict[Cell, tuple[int, float]]:
    text = files("mtrrzap").joinpath("data/published.csv").read_text(encoding="utf-8")
    return {
        (row["guest"], int(row["vcpus"]), row["row"]): (
            int(row["zap_requests"]),
            float(row["zap_mcycles"]),
        )
        for row in csv.DictReader(text.splitlines())
    }


def requests(header: Header) -> dict[str, int]:
    """Return the published numbers of zap requests of such a guest by row; empty if there are none.

    The firmware's family and the number of vCPUs identify the guest.
    """
    key = (header.family, header.vcpus)
    return {cell[2]: count for cell, (count, _) in _cells().items() if cell[:2] == key}


def mcycles(vcpus: int) -> dict[Cell, float]:
    """Return the published cells for a number of vCPUs: millions of cycles in zap requests."""
    return {cell: cycles for cell, (_, cycles) in _cells().items() if cell[1] == vcpus}
