"""The site: ``sphinx-build -W docs site``."""

from typing import Any

import mtrrzap

project = "mtrrzap"
version = release = mtrrzap.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "mtrrzap"
html_show_copyright = False
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"


def _no_type(_app: Any, what: str, *rest: Any) -> None:
    """Napoleon takes what stands before a colon in an attribute's first line for its type."""
    lines: list[str] = rest[-1]
    if what in ("attribute", "data", "property"):
        lines.insert(0, "")


def setup(app: Any) -> None:
    """Look at docstrings before Napoleon does."""
    app.connect("autodoc-process-docstring", _no_type, priority=400)
