"""Sphinx. No theme but the one it brings, nothing from the network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import txsse  # noqa: E402 - it has to be found first

project = "txsse"
author = "the txsse authors"
copyright = "the txsse authors"
release = version = txsse.__version__

extensions = ["txsse_docs"]
exclude_patterns = ["_build"]
nitpicky = True
smartquotes = False
highlight_language = "text"

html_theme = "alabaster"
html_theme_options = {
    "description": "Keeps a streaming client alive while the backend behind it is silent.",
    "fixed_sidebar": True,
    "page_width": "1160px",
    "sidebar_width": "210px",
    "show_powered_by": False,
}
html_sidebars = {"**": ["about.html", "navigation.html", "searchbox.html"]}
html_copy_source = False
html_show_copyright = False
