"""Bars: each contender of each group once, as long as its figure says."""

from __future__ import annotations

from xml.etree import ElementTree

from mirrord_trace.supervisor.cli.picture import bars

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_their_figures_within_a_group() -> None:
    root = ElementTree.fromstring(bars("a & b", "s", {"one": {"x": 1.0, "y": 2.0}, "two": {"x": 500.0}}))
    assert [text.text for text in root.iter(f"{SVG}text")] == ["a & b (s)", "one", "x", "1.00", "y", "2.00", "two", "x", "500"]
    background, x, y, other = root.iter(f"{SVG}rect")
    assert float(y.attrib["width"]) == 2 * float(x.attrib["width"])
    assert other.attrib["width"] == y.attrib["width"]
    assert other.attrib["fill"] == x.attrib["fill"] != y.attrib["fill"]
    assert float(background.attrib["height"]) > float(other.attrib["y"])


def test_nothing_to_show() -> None:
    ElementTree.fromstring(bars("none", "s", {"one": {}, "two": {"x": 0.0}}))
