"""The part of JSONPath (RFC 9535) that filters of bodies may use.

`$`, then any number of: `.key`, `.*`, `['key']`, `["key"]`, `[n]` (from the end if negative), `[*]`, `[a:b]`, `[a:b:step]`,
several of these in one pair of brackets with commas, and `..` before any of them for all depths. Not: `[?...]` filters.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Tuple, Union

_MOST_NODES = 10_000
_NAME = re.compile(r"[^\W\d][\w-]*")
_INT = r"-?(?:0|[1-9]\d{0,8})"
_INDEX = re.compile(_INT)
_SLICE = re.compile(rf"({_INT})?\s*:\s*({_INT})?\s*(?::\s*({_INT})?)?")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")

Selector = Union[str, int, slice, None]
Segment = Tuple[bool, Tuple[Selector, ...]]


class JsonPathError(ValueError):
    """The text says what is wrong with the path, and where."""


class JsonPath:
    """A parsed path. A selector is a key, an index, a slice, or None for all children."""

    def __init__(self, text: str, segments: List[Segment]) -> None:
        self.text = text
        self._segments = segments

    def find(self, value: Any) -> List[Any]:
        """What the path selects of a JSON value, at most some thousands."""
        nodes = [value]
        for deep, selectors in self._segments:
            found: List[Any] = []
            for node in nodes:
                for place in _descendants(node) if deep else (node,):
                    for selector in selectors:
                        found += _select(place, selector)
                    if len(found) >= _MOST_NODES:
                        break
            nodes = found[:_MOST_NODES]
        return nodes


def parse_path(text: str) -> JsonPath:
    """JsonPathError: it is none, or uses what is not supported."""
    if not text.startswith("$"):
        raise JsonPathError(f"the path {text!r} must begin with $")
    segments: List[Segment] = []
    at = 1
    while at < len(text):
        deep = text.startswith("..", at)
        dot = text.startswith(".", at)
        at += 2 if deep else 1 if dot else 0
        if text.startswith("[", at) and (deep or not dot):
            selectors, at = _brackets(text, at + 1)
        elif text.startswith("*", at) and dot:
            selectors, at = (None,), at + 1
        else:
            name = _NAME.match(text, at)
            if name is None or not dot:
                raise JsonPathError(f"the path {text!r} makes no sense at character {at + 1}")
            selectors, at = (name.group(),), name.end()
        segments.append((deep, selectors))
    return JsonPath(text, segments)


def _brackets(text: str, at: int) -> Tuple[Tuple[Selector, ...], int]:
    selectors: List[Selector] = []
    while True:
        selector, at = _selector(text, _blanks(text, at))
        selectors.append(selector)
        at = _blanks(text, at)
        if text.startswith("]", at):
            return tuple(selectors), at + 1
        if not text.startswith(",", at):
            raise JsonPathError(f"the path {text!r} lacks a ] at character {at + 1}")
        at += 1


def _selector(text: str, at: int) -> Tuple[Selector, int]:
    if text.startswith("*", at):
        return None, at + 1
    if text.startswith("?", at):
        raise JsonPathError(f"the path {text!r} has a filter expression, which is not supported")
    quoted = _QUOTED.match(text, at)
    if quoted is not None:
        content = quoted[1] if quoted[1] is not None else quoted[2]
        return re.sub(r"\\(.)", r"\1", content), quoted.end()
    part = _SLICE.match(text, at)
    if part is not None:
        start, stop, step = (None if number is None else int(number) for number in part.groups())
        if step == 0:
            raise JsonPathError(f"the path {text!r} has a step of 0")
        return slice(start, stop, step), part.end()
    index = _INDEX.match(text, at)
    if index is None:
        raise JsonPathError(f"the path {text!r} makes no sense at character {at + 1}")
    return int(index.group()), index.end()


def _blanks(text: str, at: int) -> int:
    while text.startswith((" ", "\t"), at):
        at += 1
    return at


def _select(node: Any, selector: Selector) -> List[Any]:
    if isinstance(node, dict):
        if selector is None:
            return list(node.values())
        return [node[selector]] if isinstance(selector, str) and selector in node else []
    if isinstance(node, list):
        if selector is None:
            return list(node)
        if isinstance(selector, slice):
            return node[selector]
        if isinstance(selector, int) and -len(node) <= selector < len(node):
            return [node[selector]]
    return []


# The node itself and all below, in order. Not recursive: the depth is a stranger's choice.
def _descendants(node: Any) -> Iterator[Any]:
    stack = [node]
    seen = 0
    while stack and seen < _MOST_NODES:
        seen += 1
        here = stack.pop()
        yield here
        if isinstance(here, dict):
            stack += reversed(list(here.values()))
        elif isinstance(here, list):
            stack += reversed(here)
