"""`feature.network.incoming.http_filter` as the filter that the agent is told (agent/wire/README.md, "Rules").

The agent would refuse a wrong filter as well, but only when the program listens. So everything that can be checked here
is: the regular expressions are Python's, on both sides, and are searched without regard to case.
"""

from __future__ import annotations

from typing import Any

from ...syscalls.path_rules import PatternError, compile_pattern
from ..errors import EXIT_USAGE, UsageError
from . import schema

Filter = dict[str, Any]

_KEY = "feature.network.incoming.http_filter"
_SINGLE = {"header_filter": "header", "path_filter": "path", "method_filter": "method"}
_DEEPEST = 8


def read_filter(given: schema.HttpFilter) -> Filter | None:
    """None: no filter. UsageError naming the key for more than one rule and for what does not work."""
    if given.header_filter_jq is not None:
        raise UsageError(f"{_KEY}.header_filter_jq: jq is not supported; use header_filter, a regular expression", EXIT_USAGE)
    names = (*_SINGLE, "body_filter", "all_of", "any_of")
    found = [name for name in names if getattr(given, name) is not None]
    if len(found) > 1:
        raise UsageError(f"{_KEY}: {' and '.join(found)} cannot both be set; put them into all_of or any_of", EXIT_USAGE)
    if not found:
        return None
    (name,) = found
    value = getattr(given, name)
    if name in _SINGLE:
        return {_SINGLE[name]: _pattern(f"{_KEY}.{name}", value)}
    if name == "body_filter":
        return _body(f"{_KEY}.{name}", value)
    return {name: _several(f"{_KEY}.{name}", value, 0)}


def _several(key: str, values: list[Any], depth: int) -> list[Filter]:
    if not values:
        raise UsageError(f"{key}: an empty list matches nothing; leave it out", EXIT_USAGE)
    if depth > _DEEPEST:
        raise UsageError(f"{key}: nested too deeply", EXIT_USAGE)
    return [_inner(f"{key}[{number}]", value, depth) for number, value in enumerate(values)]


# {"header": REGEX}, {"path": REGEX}, {"method": REGEX}, {"body": "json", ...} as in mirrord; lists may be nested here.
def _inner(key: str, value: Any, depth: int) -> Filter:
    if isinstance(value, dict) and "body" in value:
        return _body(key, value)
    if not isinstance(value, dict) or len(value) != 1:
        raise UsageError(f'{key}: expected one of {{"header": REGEX}}, path, method, body, all_of, any_of', EXIT_USAGE)
    ((name, inner),) = value.items()
    if name in ("all_of", "any_of") and isinstance(inner, list):
        return {name: _several(f"{key}.{name}", inner, depth + 1)}
    if name == "header_jq":
        raise UsageError(f"{key}.header_jq: jq is not supported; use header, a regular expression", EXIT_USAGE)
    if name not in _SINGLE.values():
        raise UsageError(f"{key}: unknown filter {schema.printable(str(name))}", EXIT_USAGE)
    return {name: _pattern(f"{key}.{name}", inner)}


def _body(key: str, value: dict[str, Any]) -> Filter:
    if value.get("body") != "json":
        raise UsageError(f'{key}.body: only "json" is supported', EXIT_USAGE)
    unknown = sorted(set(value) - {"body", "query", "matches"})
    if unknown:
        raise UsageError(f"{key}: unknown key {schema.printable(unknown[0])}", EXIT_USAGE)
    query = value.get("query")
    if not isinstance(query, str) or not query.startswith("$"):
        raise UsageError(f'{key}.query: expected a JSONPath such as "$.user.name"', EXIT_USAGE)
    return {"body": {"query": query, "matches": _pattern(f"{key}.matches", value.get("matches"))}}


def _pattern(key: str, pattern: object) -> str:
    if not isinstance(pattern, str):
        raise UsageError(f"{key}: expected a regular expression as text", EXIT_USAGE)
    try:
        compile_pattern(key, pattern)
    except PatternError as error:
        raise UsageError(str(error), EXIT_USAGE) from None
    return pattern
