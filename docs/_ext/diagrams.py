"""State diagrams as inline SVG, drawn from the transition tables themselves.

A diagram has boxes on a grid, arrows between them, and rails: vertical lines that collect the arrows which nearly every state has into
the same target, so that ten of them do not cross the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 132, 40  # of a box
COLUMN, ROW = 250, 96  # of the grid
MARGIN = 24
RAIL = 52  # between two rails

STYLE = """
.states .box { fill: #fff; stroke: #445; stroke-width: 1.4 }
.states .last { fill: #f3f1ec }
.states text { font: 12px sans-serif; fill: #334; text-anchor: middle }
.states .name { font-size: 14px; font-weight: 600 }
.states .note { fill: #a55; font-style: italic; text-anchor: start }
.states .halo { fill: #fff; stroke: #fff; stroke-width: 5px }
.states .edge { stroke: #445; stroke-width: 1.4; fill: none; marker-end: url(#head) }
.states .rail { stroke: #a55; stroke-width: 1.2; fill: none; stroke-dasharray: 4 3 }
.states .into { stroke: #a55; stroke-width: 1.2; fill: none; marker-end: url(#head-rail) }
.states .dot { fill: #a55 }
"""


@dataclass
class Diagram:
    """What to draw.

    :param places: the grid position (column, row) of every state, by name; fractions are fine.
    :param edges: the labels of each arrow, by (from, to); loops are not drawn.
    :param rails: states whose incoming arrows are gathered into a rail, each with a note that stands at its top.
    """

    title: str
    places: Mapping[str, tuple[float, float]]
    edges: Mapping[tuple[str, str], Sequence[str]]
    rails: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> set[str]:
        """States that are in an arrow and have no place."""
        return {name for pair in self.edges for name in pair} - set(self.places)


def _centre(place: tuple[float, float]) -> tuple[float, float]:
    return MARGIN + WIDTH / 2 + place[0] * COLUMN, MARGIN + HEIGHT / 2 + place[1] * ROW


def _leaves(centre: tuple[float, float], start: tuple[float, float], direction: tuple[float, float], gap: float = 3) -> float:
    """How far along *direction* (a unit vector) a line from *start*, inside the box, leaves the box."""
    ways = []
    for axis, half in ((0, WIDTH / 2 + gap), (1, HEIGHT / 2 + gap)):
        if direction[axis]:
            ways.append((centre[axis] + math.copysign(half, direction[axis]) - start[axis]) / direction[axis])
    return min(ways)


def _label(x: float, y: float, words: Sequence[str]) -> Iterable[str]:
    top = y - 7.5 * (len(words) - 1)
    for number, word in enumerate(words):
        at = f'x="{x:.0f}" y="{top + 15 * number + 4:.0f}"'
        yield f'<text class="halo" {at}>{escape(word)}</text><text {at}>{escape(word)}</text>'


def _arrow(diagram: Diagram, start: str, end: str, words: Sequence[str]) -> tuple[str, str]:
    """The line, and its label, which has to be drawn over all lines."""
    a, b = _centre(diagram.places[start]), _centre(diagram.places[end])
    both = (end, start) in diagram.edges
    length = math.dist(a, b)
    along = ((b[0] - a[0]) / length, (b[1] - a[1]) / length)
    # Two arrows between the same boxes run side by side, each to the right of its own direction.
    side = 12 if both else 0
    off = (-along[1] * side, along[0] * side)
    a, b = (a[0] + off[0], a[1] + off[1]), (b[0] + off[0], b[1] + off[1])
    first = _leaves(_centre(diagram.places[start]), a, along)
    last = length - _leaves(_centre(diagram.places[end]), b, (-along[0], -along[1]))
    x1, y1, x2, y2 = a[0] + along[0] * first, a[1] + along[1] * first, a[0] + along[0] * last, a[1] + along[1] * last
    line = f'<line class="edge" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
    part = 0.3 if both else 0.5
    return line, "".join(_label(x1 + (x2 - x1) * part + off[0], y1 + (y2 - y1) * part + off[1], words))


def _rails(diagram: Diagram, right: float) -> Iterable[str]:
    for number, (target, note) in enumerate(diagram.rails.items()):
        x = right + number * RAIL
        end = _centre(diagram.places[target])
        feeding = [_centre(diagram.places[start])[1] for start, to in diagram.edges if to == target and start not in diagram.rails]
        if not feeding:
            continue
        yield f'<text class="note" x="{x + 8:.0f}" y="{min(feeding) - 4 + 20 * number:.0f}">{escape(f"{target}: {note}")}</text>'
        yield f'<path class="rail" d="M {x:.0f} {min(feeding):.0f} V {end[1]:.0f}"/>'
        yield f'<path class="into" d="M {x:.0f} {end[1]:.0f} H {end[0] + WIDTH / 2 + 3:.0f}"/>'
        for start, to in diagram.edges:
            if to == target and start not in diagram.rails:
                across, down = _centre(diagram.places[start])
                yield f'<path class="rail" d="M {across + WIDTH / 2:.0f} {down + 6 * number:.0f} H {x:.0f}"/>'
                yield f'<circle class="dot" cx="{x:.0f}" cy="{down + 6 * number:.0f}" r="3"/>'


def _marker(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" markerHeight="9" orient="auto">'
        f'<path d="M 0 0 L 8 4 L 0 8 z" fill="{colour}"/></marker>'
    )


def svg(diagram: Diagram) -> str:
    """The picture, as an ``<svg>`` element to stand in a page."""
    missing = diagram.missing()
    if missing:
        raise ValueError(f"{diagram.title}: no place for {', '.join(sorted(missing))}; add it to docs/_ext/pages.py")
    centres = [_centre(place) for place in diagram.places.values()]
    right = max(x for x, _ in centres) + WIDTH / 2 + 34
    width = right + len(diagram.rails) * RAIL + (330 if diagram.rails else 0)
    height = max(y for _, y in centres) + HEIGHT / 2 + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="states" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" style="max-width: 100%" role="img" aria-label="{escape(diagram.title)}">',
        f"<title>{escape(diagram.title)}</title><style>{STYLE}</style>",
        f"<defs>{_marker('head', '#445')}{_marker('head-rail', '#a55')}</defs>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>',
    ]
    if diagram.rails:
        lines += _rails(diagram, right)
    arrows = [
        _arrow(diagram, start, end, words)
        for (start, end), words in diagram.edges.items()
        if start != end and (end not in diagram.rails or start in diagram.rails)
    ]
    lines += [line for line, _ in arrows] + [label for _, label in arrows]
    sources = {start for start, end in diagram.edges if start != end}
    for name, place in diagram.places.items():
        x, y = _centre(place)
        kind = "box" if name in sources else "box last"
        lines.append(f'<rect class="{kind}" x="{x - WIDTH / 2:.0f}" y="{y - HEIGHT / 2:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="7"/>')
        lines.append(f'<text class="name" x="{x:.0f}" y="{y + 5:.0f}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>"])
