"""The part of mirrord's configuration templates that is used: environment variables and the session key.

mirrord renders a configuration with the Tera engine before it parses it. `{{ get_env(name="X", default="y") }}` and
`{{ key }}` are rendered here, comments `{# #}` removed; anything else of the language is a clear error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import EXIT_USAGE, UsageError

_MARK = re.compile(r"\{#.*?#\}|\{\{-?(?P<expression>.*?)-?\}\}|\{%(?P<statement>.*?)%\}", re.DOTALL)
_TEXT = r"""(?:"([^"]*)"|'([^']*)'|`([^`]*)`)"""
_ARGUMENT = re.compile(rf"\s*(name|default)\s*=\s*{_TEXT}\s*(?:,|\Z)")
_CALL = re.compile(r"\s*get_env\s*\((.*)\)\s*\Z", re.DOTALL)


def render(source: str, text: str, environ: Mapping[str, str], key: str) -> str:
    """`text` with its template expressions replaced; UsageError naming the line of one that cannot be."""

    def replaced(mark: re.Match[str]) -> str:
        expression = mark.group("expression")
        where = f"{source}: line {text.count(chr(10), 0, mark.start()) + 1}"
        if mark.group("statement") is not None:
            raise UsageError(f"{where}: {{% %}} is not supported in templates; only get_env and key", EXIT_USAGE)
        if expression is None:
            return ""
        return key if expression.strip() == "key" else _get_env(where, expression, environ)

    return _MARK.sub(replaced, text)


def _get_env(where: str, expression: str, environ: Mapping[str, str]) -> str:
    call = _CALL.match(expression)
    arguments = _arguments(call.group(1)) if call else {}
    if "name" not in arguments:
        known = '{{ get_env(name="X", default="y") }} and {{ key }}'
        raise UsageError(f"{where}: {{{{{expression}}}}} is not supported in templates; only {known}", EXIT_USAGE)
    value = environ.get(arguments["name"], arguments.get("default"))
    if value is None:
        raise UsageError(f"{where}: the variable {arguments['name']} is not set, and has no default", EXIT_USAGE)
    return value


# name="X", default="y" in any order; empty if the text is not exactly that.
def _arguments(text: str) -> dict[str, str]:
    arguments: dict[str, str] = {}
    position = 0
    while position < len(text) and text[position:].strip():
        argument = _ARGUMENT.match(text, position)
        if argument is None:
            return {}
        arguments[argument.group(1)] = next(value for value in argument.groups()[1:] if value is not None)
        position = argument.end()
    return arguments
