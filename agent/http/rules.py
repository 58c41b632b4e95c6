"""What of the connections to a port is the client's: `Subscribe.rules`, JSON (agent/wire/README.md, section 8).

Strict: an unknown key or a value of another type is an error whose text is for the user.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, FrozenSet, Optional

from . import filters
from .jsonpath import JsonPathError, parse_path
from .patience import Patient

_MOST_DEPTH = 16


class RulesError(ValueError):
    """The text says what is wrong, in one line, for the user."""


@dataclass(frozen=True)
class Sample:
    """How much of what matches is taken: `percent` of it at random, and at most `per_second` (0: no limit)."""

    percent: float = 100.0
    per_second: float = 0.0


@dataclass(frozen=True)
class Tls:
    """TLS is ended in the agent. Paths are of the pod, "" asks for a search; `delivery` to the program is "tls" or "tcp".

    `server_name` "" keeps the peer's SNI. `trust_roots` is PEM text; "": the program's certificate is not verified.
    """

    certificate: str = ""
    key: str = ""
    delivery: str = "tls"
    server_name: str = ""
    trust_roots: str = ""


@dataclass(frozen=True)
class Rules:
    """`filter` None: everything is the client's but the kubelet's probes, which `take_probes` gives to it as well.

    `marker`: answers get a header `mirrord-agent` that says who gave them.
    """

    filter: Optional[filters.Filter] = None
    sample: Optional[Sample] = None
    tls: Optional[Tls] = None
    take_probes: bool = False
    marker: bool = False

    @cached_property
    def patient(self) -> Optional[Patient]:
        """`filter` with a bound on its time, one for all connections."""
        return None if self.filter is None else Patient(self.filter)


def parse_rules(text: str) -> Rules:
    """Rules of a subscription; "" are the default ones. RulesError: they make no sense."""
    if not text.strip():
        return Rules()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RulesError(f"the rules are not JSON: {error}") from None
    given = _object(value, "rules", frozenset(("filter", "sample", "tls", "probes", "marker")))
    return Rules(
        filter=_filter(given["filter"], "filter", 0) if given.get("filter") is not None else None,
        sample=_sample(given["sample"]) if given.get("sample") is not None else None,
        tls=_tls(given["tls"]) if given.get("tls") is not None else None,
        take_probes=_choice(given, "probes", ("pass", "take"), "pass") == "take",
        marker=_boolean(given, "marker"),
    )


def _object(value: Any, where: str, known: FrozenSet[str]) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise RulesError(f"{where} must be an object")
    for key in value:
        if key not in known:
            raise RulesError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(known))}")
    return value


def _sample(value: Any) -> Sample:
    given = _object(value, "sample", frozenset(("percent", "per_second")))
    percent = _number(given, "percent", 100.0)
    if percent > 100:
        raise RulesError("sample.percent must be 0 to 100")
    return Sample(percent, _number(given, "per_second", 0.0))


def _tls(value: Any) -> Tls:
    given = _object(value, "tls", frozenset(("certificate", "key", "delivery", "server_name", "trust_roots")))
    for key, entry in given.items():
        if not isinstance(entry, str):
            raise RulesError(f"tls.{key} must be a string")
    given["delivery"] = _choice(given, "delivery", ("tls", "tcp"), "tls")
    return Tls(**given)


def _filter(value: Any, where: str, depth: int) -> filters.Filter:
    if not isinstance(value, dict) or len(value) != 1:
        raise RulesError(f"{where} must be an object with one key: header, path, method, body, all_of or any_of")
    ((kind, argument),) = value.items()
    where = f"{where}.{kind}"
    if depth > _MOST_DEPTH:
        raise RulesError(f"{where} is nested too deeply")
    if kind in ("all_of", "any_of"):
        if not isinstance(argument, list) or not argument:
            raise RulesError(f"{where} must be a list with at least one filter")
        parts = [_filter(part, f"{where}[{index}]", depth + 1) for index, part in enumerate(argument)]
        return filters.AllOf(parts) if kind == "all_of" else filters.AnyOf(parts)
    if kind == "body":
        return _body(argument, where)
    one: Dict[str, Any] = {"header": filters.Header, "path": filters.Path, "method": filters.Method}
    if kind not in one:
        raise RulesError(f"{where}: there is no such filter; there are header, path, method, body, all_of and any_of")
    made: filters.Filter = one[kind](_regex(argument, where))
    return made


def _body(value: Any, where: str) -> filters.Filter:
    given = _object(value, where, frozenset(("query", "matches")))
    if not isinstance(given.get("query"), str):
        raise RulesError(f"{where}.query must be a JSONPath, as a string")
    try:
        query = parse_path(given["query"])
    except JsonPathError as error:
        raise RulesError(f"{where}.query: {error}") from None
    return filters.Body(query, _regex(given.get("matches"), f"{where}.matches"))


def _regex(value: Any, where: str) -> filters.Regex:
    if not isinstance(value, str):
        raise RulesError(f"{where} must be a regular expression, as a string")
    try:
        return filters.compile_regex(value)
    except filters.RegexError as error:
        raise RulesError(f"{where}: {error}") from None


def _choice(given: Dict[str, Any], key: str, among: "tuple[str, ...]", default: str) -> str:
    value = given.get(key, default)
    if value not in among:
        raise RulesError(f"{key} must be {' or '.join(among)}")
    return str(value)


def _boolean(given: Dict[str, Any], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise RulesError(f"{key} must be true or false")
    return value


def _number(given: Dict[str, Any], key: str, default: float) -> float:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise RulesError(f"sample.{key} must be a number, 0 or more")
    return float(value)
