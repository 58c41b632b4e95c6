"""`feature.env.env_file` and --env-file: a .env file -> variables.

One `NAME=value` a line, `export` in front allowed, `#` starts a comment. Single quotes keep a value as it is; double
quotes know \\n, \\", \\\\ and \\$. Unquoted and double-quoted values may use `$NAME` and `${NAME}`: of the lines above,
else of this process's environment, else empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import EXIT_USAGE, UsageError

_LINE = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*
    (?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<plain>(?:(?!['"\#])\S(?:(?![ \t]+\#)[^\n])*)?))
    [ \t]*(?:\#[^\n]*)?(?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_REFERENCE = re.compile(
    r"\\(?P<escaped>.)|\$\{(?P<braced>[A-Za-z_][A-Za-z0-9_.]*)\}|\$(?P<bare>[A-Za-z_][A-Za-z0-9_]*)", re.DOTALL
)


def parse_env_file(source: str, text: str, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The variables of `text` in order, the last of a name winning; UsageError naming the line that is none."""
    text = text.replace("\r\n", "\n")
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        blank = _BLANK.match(text, position)
        line = blank or _LINE.match(text, position)
        if line is None:
            number = text.count("\n", 0, position) + 1
            raise UsageError(f"{source}: line {number}: expected NAME=value", EXIT_USAGE)
        if blank is None:
            value = _value(line, found, environ)
            if "\0" in value:
                raise UsageError(f"{source}: {line.group('name')}: a value cannot hold a NUL byte", EXIT_USAGE)
            found[line.group("name")] = value
        position = line.end()
    return tuple(found.items())


def _value(line: re.Match[str], found: Mapping[str, str], environ: Mapping[str, str]) -> str:
    single: str | None = line.group("single")
    if single is not None:
        return single
    double: str | None = line.group("double")
    text: str = line.group("plain").strip() if double is None else double
    escapes = {"n": "\n", "t": "\t", "r": "\r"}

    def replaced(part: re.Match[str]) -> str:
        escaped: str | None = part.group("escaped")
        if escaped is not None:
            return escapes.get(escaped, escaped) if double is not None else escaped
        name: str = part.group("braced") or part.group("bare")
        return found.get(name, environ.get(name, ""))

    return _REFERENCE.sub(replaced, text)
