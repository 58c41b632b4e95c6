"""A configuration file: bytes on disk -> a tree of keys in their long forms."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping

from ..errors import EXIT_USAGE, UsageError
from .schema import Tree, lengthen, printable
from .template import render

DEFAULT_PATH = os.path.join(".mirrord", "mirrord.json")
"""What -f without a value means, relative to the working directory."""


def read_file(path: str, directory: str, environ: Mapping[str, str], key: str) -> Tree:
    """The configuration in `path`; `key` is for `{{ key }}`. UsageError names the file, and the line if possible."""
    try:
        with open(os.path.join(directory, path), "rb") as stream:
            content = stream.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"cannot read the configuration file {path}: {reason}", EXIT_USAGE) from None
    return parse(path, content, environ, key)


def parse(path: str, content: bytes, environ: Mapping[str, str], key: str) -> Tree:
    """`content` as the format that the name `path` says (none: JSON)."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}", EXIT_USAGE) from None
    text = render(path, text, environ, key)
    suffix = os.path.splitext(path)[1].lower()
    parsers = {"": _json, ".json": _json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
    if suffix not in parsers:
        raise UsageError(f"{path}: a configuration file ends in .json, .toml, .yaml or .yml", EXIT_USAGE)
    try:
        raw = parsers[suffix](path, text)
    except RecursionError:
        raise UsageError(f"{path}: nested too deep", EXIT_USAGE) from None
    return lengthen(path, {} if raw is None and suffix in (".yaml", ".yml") else raw)


def _json(path: str, text: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"{path}: the key {printable(twice)} is given twice", EXIT_USAGE)
        return table

    def no_constant(name: str) -> object:
        raise UsageError(f"{path}: {name} is no JSON value", EXIT_USAGE)

    try:
        parsed: object = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
        return parsed
    except json.JSONDecodeError as error:
        comment = text[error.pos :].lstrip().startswith(("//", "/*", "#"))
        hint = "; JSON has no comments" if comment else ""
        raise UsageError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}{hint}", EXIT_USAGE) from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}", EXIT_USAGE) from None


def _toml(path: str, text: str) -> object:
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table: object = tomllib.loads(text)
        return table
    except ValueError as error:
        raise UsageError(f"{path}: {error}", EXIT_USAGE) from None


def _yaml(path: str, text: str) -> object:
    import yaml  # 35 ms, and few configurations are YAML

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise UsageError(f"{path}: {where}{error.problem or error.context}", EXIT_USAGE) from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        # Besides its own errors PyYAML lets those of the values' constructors through (dates, numbers, odd keys).
        raise UsageError(f"{path}: {' '.join(str(error).split())}", EXIT_USAGE) from None
