"""Which requests are meant: regular expressions on method, path, headers and JSON body, and combinations of them.

A filter answers True, False, or None for "that depends on the body". Expressions are the developer's, written for the
syntax that mirrord has (Rust's fancy-regex): searched anywhere, without regard to case. What Python spells differently is
rewritten; what it lacks (`\\p{...}`, and before Python 3.11 atomic groups and possessive quantifiers) is refused. They run
in the pod on what strangers send: a subject is cut after some KiB, and a filter that takes too long all the same is given
up (patience.py).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, List, Optional, Pattern, Protocol, Sequence, Tuple

from .jsonpath import JsonPath

MOST_BODY_BYTES = 64 * 1024
"""Bodies above this match no filter of bodies."""

_MOST_SUBJECT = 8192
_MOST_PATTERN = 4096
_POSIX = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "ascii": r"\x00-\x7f", "blank": r" \t", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": " -~", "punct": r"!-/:-@\[-`{-~", "space": r"\s",
    "upper": "A-Z", "word": r"\w", "xdigit": "0-9a-fA-F",
}  # fmt: skip
_REWRITTEN = re.compile(
    r"\\x\{([0-9a-fA-F]{1,6})\}|\\z|\[:(\w+):\]|\(\?i\)|\(\?<(?=[A-Za-z_])|\\.",
    re.DOTALL,
)

Headers = Sequence[Tuple[bytes, bytes]]
Regex = Pattern[str]


class RegexError(ValueError):
    """The text says what is wrong with the expression."""


@dataclass
class Facts:
    """A request as filters see it. `target` is as in the request line or `:path`; `body` None: not known (yet)."""

    method: bytes
    target: bytes
    headers: Headers
    body: Optional[bytes] = None


class Filter(Protocol):
    """One condition, or several."""

    def match(self, facts: Facts) -> Optional[bool]:
        """None: it depends on the body, which is not known."""


@dataclass(frozen=True)
class Method:
    """The request's method."""

    regex: Regex

    def match(self, facts: Facts) -> Optional[bool]:
        """Never None."""
        return _search(self.regex, _text(facts.method))


@dataclass(frozen=True)
class Path:
    """The path alone, then the path with its query."""

    regex: Regex

    def match(self, facts: Facts) -> Optional[bool]:
        """Never None."""
        target = _text(_origin_form(facts.target))
        path = target.partition("?")[0]
        return _search(self.regex, path) or (path != target and _search(self.regex, target))


@dataclass(frozen=True)
class Header:
    """One of the headers, as "Name: value"."""

    regex: Regex

    def match(self, facts: Facts) -> Optional[bool]:
        """Never None."""
        return any(_search(self.regex, _text(name + b": " + value)) for name, value in facts.headers)


@dataclass(frozen=True)
class Body:
    """One of the values that `query` selects of a JSON body: strings as they are, others as compact JSON."""

    query: JsonPath
    regex: Regex

    def match(self, facts: Facts) -> Optional[bool]:
        """None while the body is not known."""
        if facts.body is None:
            return None
        try:
            found = self.query.find(json.loads(facts.body))
            return any(_search(self.regex, _json_text(value)) for value in found)
        except (ValueError, RecursionError):
            return False


@dataclass(frozen=True)
class AllOf:
    """Each of several."""

    parts: List[Filter]

    def match(self, facts: Facts) -> Optional[bool]:
        """None: no part says no, and one depends on the body."""
        answers = [part.match(facts) for part in self.parts]
        return False if False in answers else None if None in answers else True


@dataclass(frozen=True)
class AnyOf:
    """At least one of several."""

    parts: List[Filter]

    def match(self, facts: Facts) -> Optional[bool]:
        """None: no part says yes, and one depends on the body."""
        answers = [part.match(facts) for part in self.parts]
        return True if True in answers else None if None in answers else False


def compile_regex(pattern: str) -> Regex:
    """RegexError: Python cannot express it."""
    if len(pattern) > _MOST_PATTERN:
        raise RegexError(f"the regular expression is longer than {_MOST_PATTERN} characters")
    try:
        return re.compile(_REWRITTEN.sub(_rewrite, pattern), re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise RegexError(f"the regular expression {pattern!r} cannot be used: {error}") from None


# From the Rust spelling to Python's. Any other escape is taken as a pair, so that what is escaped is not looked at.
def _rewrite(match: "re.Match[str]") -> str:
    found = match.group()
    if match[1] is not None:
        code = int(match[1], 16)
        return re.escape(chr(code)) if code < 0x110000 else found
    if match[2] is not None:
        return _POSIX.get(match[2], found)
    return {r"\z": r"\Z", "(?i)": "", "(?<": "(?P<"}.get(found, found)


def _search(regex: Regex, subject: str) -> bool:
    return regex.search(subject[:_MOST_SUBJECT]) is not None


def _json_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


# RFC 9112, 3.2: a proxy is asked with the whole URI.
def _origin_form(target: bytes) -> bytes:
    if target[:1] == b"/":
        return target
    scheme, separator, rest = target.partition(b"://")
    if not separator or not scheme.isalnum():
        return target
    for index, byte in enumerate(rest):
        if byte in b"/?#":
            return rest[index:] if byte == ord("/") else b"/" + rest[index:]
    return b"/"
