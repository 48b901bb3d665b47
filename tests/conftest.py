"""Fixtures that more than one test module uses."""

from test_cli import run

__all__ = ["run"]
