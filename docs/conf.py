"""The site: ``sphinx-build -W docs site``."""

import mtrrzap

project = "mtrrzap"
version = release = mtrrzap.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "mtrrzap"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
