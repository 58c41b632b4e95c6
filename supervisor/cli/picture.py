"""Bars as an SVG picture, without any library: groups of figures, each with a bar for each contender."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_WIDTH, _BAR, _GAP, _LEFT, _RIGHT = 860, 15, 14, 190, 70
_COLOURS = ("#8c8c8c", "#4c78a8", "#f58518", "#e45756", "#b279a2", "#54a24b", "#2f6b2f", "#72b7b2")


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """`groups`: what is measured -> contender -> its figure. Each group has a scale of its own."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    lines, top = [_text(10, 22, f"{title} ({unit})", "font-weight='bold' font-size='15'")], 40
    for what, group in groups.items():
        lines.append(_text(10, top + 12, what, "font-weight='bold'"))
        top += _BAR + 3
        most = max(group.values(), default=0.0) or 1.0
        for name, value in group.items():
            width = max(1.0, value / most * (_WIDTH - _LEFT - _RIGHT))
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            lines.append(_text(_LEFT - 8, top + 11, name, "text-anchor='end'"))
            lines.append(f"<rect x='{_LEFT}' y='{top}' width='{width:.1f}' height='{_BAR - 2}' fill='{colour}'/>")
            lines.append(_text(_LEFT + width + 6, top + 11, _figure(value)))
            top += _BAR
        top += _GAP
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{top}' font-family='sans-serif' font-size='12'>"
    return "\n".join([head, f"<rect width='{_WIDTH}' height='{top}' fill='white'/>", *lines, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.0f}' y='{y:.0f}' {more}>{escape(text)}</text>"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
