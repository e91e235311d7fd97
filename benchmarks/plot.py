"""Ratios as an SVG: a row for each figure, a dot for each peer, a line from the least to the most of the rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import attrs

LEFT, WIDTH, ROW, TOP = 190, 560, 44, 64
COLOURS: Final = ("#2b6cb0", "#b7791f", "#2f855a", "#9b2c2c")
TICKS: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


@attrs.frozen
class Dot:
    row: str
    series: str
    middle: float
    least: float
    most: float


def draw(title: str, dots: Sequence[Dot]) -> str:
    """A whole SVG document; the scale is logarithmic."""
    rows = list(dict.fromkeys(dot.row for dot in dots))
    series = list(dict.fromkeys(dot.series for dot in dots))
    low = min([0.5, *(dot.least for dot in dots)]) / 1.2
    high = max([2.0, *(dot.most for dot in dots)]) * 1.2
    height = TOP + ROW * len(rows) + 34

    def x(value: float) -> float:
        return LEFT + WIDTH * math.log(max(value, low) / low) / math.log(high / low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="#fff"/><text x="12" y="22" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for number, name in enumerate(series):
        at = LEFT + 110 * number
        out.append(f'<circle cx="{at}" cy="42" r="4.5" fill="{COLOURS[number]}"/><text x="{at + 10}" y="46">over {escape(name)}</text>')
    bottom = TOP + ROW * len(rows)
    for tick in TICKS:
        if low <= tick <= high:
            stroke = "#444" if tick == 1 else "#ddd"
            out.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{bottom}" stroke="{stroke}"/>')
            out.append(f'<text x="{x(tick):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">{tick:g}</text>')
    for number, row in enumerate(rows):
        out.append(f'<text x="12" y="{TOP + ROW * (number + 0.5) + 4:.1f}">{escape(row)}</text>')
    for dot in dots:
        number = series.index(dot.series)
        y = TOP + ROW * rows.index(dot.row) + ROW * (number + 1) / (len(series) + 1)
        colour = COLOURS[number]
        out.append(f'<line x1="{x(dot.least):.1f}" x2="{x(dot.most):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="2"/>')
        spread = f"{dot.middle:.3g} ({dot.least:.3g}-{dot.most:.3g})"
        out.append(f'<circle cx="{x(dot.middle):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"><title>{spread}</title></circle>')
    return "\n".join([*out, "</svg>", ""])
