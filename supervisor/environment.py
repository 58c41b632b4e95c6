"""environ(7) of the program: its own environment with the pod's merged in.

mirrord's order: the pod's variables, less what is excluded; then the env file; then `mapping` gives new values to
variables by name; then `override`; the result goes over the program's own environment; last, `unset` removes.

The pod's own program (--from-pod) has the pod's environment and nothing of ours but what describes the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from re import Pattern

# Variables that describe the pod's machine, not its application: paths of runtimes and tool chains, loggers of the
# tool itself. The list is mirrord's, and LD_PRELOAD: the library is in the pod, the dynamic loader runs here.
DEFAULT_EXCLUDED = (
    *("PATH", "HOME", "PWD", "HOMEPATH", "LD_PRELOAD"),
    *("PYTHONPATH", "GOPATH", "GOMODCACHE"),
    *("CLASSPATH", "JAVA_HOME", "JAVA_EXE", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "CATALINA_HOME"),
    *("BUNDLE*", "GEM_HOME", "GEM_PATH", "RUBYLIB", "RUBYOPT"),
    *("DOTNET_STARTUP_HOOKS", "DOTNET_EnableDiagnostics"),
    *("RUST_LOG", "MIRRORD_LOG"),
)

# Whoever is found to have credentials of the developer's own does not ask for those of the pod.
_AWS = tuple(
    b"AWS_" + name
    for name in (
        *(b"PROFILE", b"DEFAULT_PROFILE", b"CONFIG_FILE", b"SHARED_CREDENTIALS_FILE"),
        *(b"ACCESS_KEY_ID", b"SECRET_ACCESS_KEY", b"SESSION_TOKEN", b"SECURITY_TOKEN", b"CREDENTIAL_EXPIRATION"),
        *(b"ROLE_ARN", b"ROLE_SESSION_NAME", b"WEB_IDENTITY_TOKEN_FILE"),
        *(b"CONTAINER_CREDENTIALS_RELATIVE_URI", b"CONTAINER_CREDENTIALS_FULL_URI"),
        *(b"CONTAINER_AUTHORIZATION_TOKEN", b"CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    )
)
_TERMINAL = (b"TERM", b"COLORTERM", b"TERM_PROGRAM", b"COLUMNS", b"LINES", b"DISPLAY", b"WAYLAND_DISPLAY")


@dataclass(frozen=True)
class EnvConfig:
    """`feature.env`. Names in `include` (None: all) and `exclude` may hold `*` and `?`; `mapping` is by pattern.

    A name in `include` without wildcards also brings back what is excluded by default. `env_file` is its content.
    `hides_aws`: `feature.magic.aws`. `from_pod`: the program is the pod's own.
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    env_file: tuple[tuple[str, str], ...] = ()
    mapping: tuple[tuple[Pattern[str], str], ...] = ()
    override: tuple[tuple[str, str], ...] = ()
    unset: tuple[str, ...] = ()
    hides_aws: bool = True
    from_pod: bool = False


@dataclass(frozen=True)
class Dropped:
    """A variable of the pod that the program does not get, and why (for people)."""

    name: bytes
    why: str


@dataclass(frozen=True)
class Environment:
    """The merged environment, the names that came from the pod, and those of the pod that did not."""

    variables: dict[bytes, bytes]
    from_pod: tuple[bytes, ...]
    dropped: tuple[Dropped, ...]


def merge_environment(own: Mapping[bytes, bytes], pod: Iterable[bytes], config: EnvConfig) -> Environment:
    """environ(7): `own` is this process's environment, `pod` the pod's `NAME=value` entries."""
    own = _own(own, config)
    filtered = _Filter(config, {_decode(name) for name in own} if config.from_pod else set())
    taken: dict[str, str] = {}
    dropped: list[Dropped] = []
    for name, value in _entries(pod):
        why = filtered.objection(name)
        if why:
            dropped.append(Dropped(_encode(name), why))
        else:
            taken[name] = value
    from_pod = list(taken)
    taken.update(config.env_file)
    for name in taken:
        for pattern, replacement in config.mapping:
            if pattern.search(name):
                taken[name] = replacement
                break
    taken.update(config.override)
    variables = dict(own)
    variables.update((_encode(name), _encode(value)) for name, value in taken.items())
    unset = {name.upper() for name in config.unset}
    for key in [key for key in variables if _decode(key).upper() in unset]:
        del variables[key]
    dropped += [Dropped(_encode(name), "feature.env.unset") for name in from_pod if name.upper() in unset]
    kept = tuple(_encode(name) for name in from_pod if name.upper() not in unset)
    return Environment(variables, kept, tuple(sorted(dropped, key=lambda drop: drop.name)))


# What the program has of this machine's environment.
def _own(own: Mapping[bytes, bytes], config: EnvConfig) -> dict[bytes, bytes]:
    if config.from_pod:
        return {name: own[name] for name in _TERMINAL if name in own}
    return {name: value for name, value in own.items() if not (config.hides_aws and name in _AWS)}


def name_pattern(glob: str) -> Pattern[str]:
    """A variable name with `*` and `?` as a pattern for the whole name."""
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in glob) + r"\Z", re.DOTALL)


_DEFAULT_EXCLUDED = [name_pattern(glob) for glob in DEFAULT_EXCLUDED]


class _Filter:
    def __init__(self, config: EnvConfig, kept: set[str]) -> None:
        include = config.include
        self._kept = kept
        self._default = [] if config.from_pod else _DEFAULT_EXCLUDED
        self._include = None if include is None else [name_pattern(glob) for glob in include]
        self._literal = {name for name in include or () if "*" not in name and "?" not in name}
        self._exclude = [name_pattern(glob) for glob in config.exclude]

    # Why the program must not get this variable of the pod; empty if it gets it.
    def objection(self, name: str) -> str:
        if name not in self._literal and any(pattern.match(name) for pattern in self._default):
            return "excluded by default"
        if name in self._kept:
            return "the terminal is this machine's"
        if any(pattern.match(name) for pattern in self._exclude):
            return "feature.env.exclude"
        if self._include is not None and not any(pattern.match(name) for pattern in self._include):
            return "not in feature.env.include"
        return ""


# As getenv(3) sees them: entries without "=" or name are no variables, and the first of a name counts.
def _entries(environ: Iterable[bytes]) -> Iterable[tuple[str, str]]:
    seen = set()
    for entry in environ:
        name, separator, value = entry.partition(b"=")
        if separator and name and name not in seen:
            seen.add(name)
            yield _decode(name), _decode(value)


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
