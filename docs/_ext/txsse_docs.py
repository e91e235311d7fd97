"""The Sphinx extension: ``.. generated:: NAME`` puts a page of :mod:`pages` where it stands."""

from __future__ import annotations

from typing import Any, ClassVar

import pages
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Generated(SphinxDirective):
    """Parses reST made by the code, or lets an SVG picture through."""

    required_arguments: ClassVar[int] = 1
    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name in pages.PICTURES:
            return [nodes.raw("", pages.PICTURES[name](), format="html")]
        if name not in pages.PAGES:
            raise self.error(f"unknown page {name!r}; there are {', '.join([*pages.PAGES, *pages.PICTURES])}")
        return self.parse_text_to_nodes(pages.PAGES[name](), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
