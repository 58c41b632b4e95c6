"""Where the files of one path are: mirrord's rules, so that a mirrord.json means the same here.

Order (the first that applies decides): mapping rewrites the path; then the user's lists not_found, read_write,
read_only, local; then the pod's volumes, as if they were at the end of read_only; then the defaults hidden, remote, local;
then the mode. In mode `local` nothing else is looked at.

For writing, the pod has what read_write names and, in mode `write`, what the mode decides. Everything else that is the
pod's is so for reading only: writes to it stay on this machine.

All patterns are searched (not anchored) and ignore case, as in mirrord. Paths have no encoding but patterns are text,
so matching is done on the path decoded as UTF-8 with the undecodable bytes kept as lone surrogates.

Two differences from mirrord, both because a supervised program has its dynamic loader supervised as well, while
mirrord's hooks only start after it: versioned libraries (`libx.so.6`) and /lib32, /lib64, /libx32 are local.
"""

from __future__ import annotations

import enum
import re
import warnings
from dataclasses import dataclass
from re import Pattern

from .actions import Decision, Reason, Route


class FsMode(enum.Enum):
    """`feature.fs.mode`: what happens to a path that no list names. READ: reads from the pod, writes stay local.

    WRITE: both are the pod's. LOCAL_WITH_OVERRIDES: neither is.
    """

    LOCAL = "local"
    LOCAL_WITH_OVERRIDES = "localwithoverrides"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class FileConfig:
    """What the file decisions depend on. Patterns are text; places of this machine are bytes, empty if unknown.

    `executables`: the program, and what it debugs. `volumes`: where the pod's volumes are mounted. `hides_aws`:
    `feature.magic.aws`. `from_pod`: the program is the pod's own, so that only what is this machine's by nature is local.
    """

    mode: FsMode = FsMode.READ
    read_write: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()
    mapping: tuple[tuple[str, str], ...] = ()
    home: bytes = b""
    working_directory: bytes = b""
    temporary_directory: bytes = b"/tmp"
    executables: tuple[bytes, ...] = ()
    volumes: tuple[bytes, ...] = ()
    hides_aws: bool = True
    from_pod: bool = False


class PatternError(ValueError):
    """A pattern of the user is no regular expression that this tool can use."""

    def __init__(self, key: str, pattern: str, why: str) -> None:
        super().__init__(f"{key}: the pattern {pattern!r} does not work: {why}")


# Rust's regular expressions (mirrord's) and Python's differ in two spellings that are common in configurations.
_RUST_SPELLING = re.compile(r"\\.|\(\?<(?=[A-Za-z_])", re.DOTALL)


def _python_spelling(part: re.Match[str]) -> str:
    spelling = part.group()
    return {"(?<": "(?P<", r"\z": r"\Z"}.get(spelling, spelling)


def compile_pattern(key: str, pattern: str, *, ignore_case: bool = True) -> Pattern[str]:
    """One pattern of the user; `key` names its place in the configuration. Raises PatternError."""
    with warnings.catch_warnings():
        # "Possible nested set": [[:alpha:]] and the like would silently match something else.
        warnings.simplefilter("error")
        try:
            return re.compile(_RUST_SPELLING.sub(_python_spelling, pattern), re.IGNORECASE if ignore_case else 0)
        except (re.error, Warning, OverflowError, RecursionError) as error:
            raise PatternError(key, pattern, str(error) or type(error).__name__) from None


_TREES = (
    "proc|sys|lib|lib32|lib64|libx32|etc|usr|home|bin|sbin|dev|opt|tmp|var/tmp|var/db/timezone/zoneinfo|snap|run|selinux|nix"
)
_SUFFIXES = r"so(?:\.[0-9]+)*|sh|rb|d|pyc|py|jar|class|js|pth|plist"
_LOCAL_TREE = re.compile(rf"/(?:{_TREES})(?:/|\Z)|/\Z|/Program Files", re.IGNORECASE)
_LOCAL_NAME = re.compile(
    rf".\.(?:{_SUFFIXES})\Z|\.(?:pdb|dll)\Z|venv\.cfg\Z|(?:^|/)jvm\.cfg\Z|clr-.*-pipe-|/package\.json\Z"
    r"|/\.yarnrc(?:.yml|.json)?\Z|/node_modules|.\.asdf/.|/\.tool-versions\Z",
    re.IGNORECASE,
)
_REMOTE = re.compile(r"/etc/(?:resolv\.conf|hosts|hostname|ssl/certs(?:/.*)?)\Z", re.IGNORECASE | re.DOTALL)
_NAME_SERVICE = re.compile(r"/etc/(?:resolv\.conf|hosts)\Z", re.IGNORECASE)
# What the kernel tells of a network namespace. The agent answers for /proc/net with its own, since it is in the pod's.
_PROC_NET = re.compile(r"/proc/(?:(?:thread-)?self/)?net(?=/|\Z)")
_SYS_NET = re.compile(r"/sys/(?:class|devices/virtual)/net(?:/|\Z)")
_HIDDEN_IN_HOME = (".config/gcloud", ".kube", ".azure")
# With --from-pod: what belongs to this machine, its kernel and its devices.
_MACHINE = re.compile(r"/(?:proc|sys|dev)(?:/|\Z)")
_TEMPORARY = re.compile(r"/(?:var/)?tmp(?:/|\Z)")

_CACHE_LIMIT = 65536

_LOCAL = {reason: Decision(Route.LOCAL, reason) for reason in Reason}
_MISSING = {reason: Decision(Route.MISSING, reason) for reason in Reason}
# Without a path: `PathRules.decide` adds it.
_POD = {reason: Decision(Route.REMOTE, reason) for reason in Reason}


# For `local_trees`: of _TREES those without an exception, and places that have some.
_PLAIN_TREES = (
    b"lib", b"lib32", b"lib64", b"libx32", b"usr", b"bin", b"sbin", b"opt", b"tmp", b"var/tmp", b"snap", b"run", b"selinux",
    b"nix",
)  # fmt: skip
_WITH_EXCEPTIONS = (b"/etc", b"/proc", b"/sys", b"/dev")

# mirrord compiles `replacement` with $name, ${name}, $1 and $$; a group that did not take part is empty.
_REFERENCE = re.compile(r"\$(?:\$|\{([^}]*)\}|([0-9A-Za-z_]+))")


def _expand(replacement: str, match: re.Match[str]) -> str:
    def group(reference: re.Match[str]) -> str:
        name: str | None = reference.group(1) if reference.group(1) is not None else reference.group(2)
        if name is None:
            return "$"
        try:
            return match.group(int(name) if name.isdecimal() else name) or ""
        except (IndexError, ValueError):
            return ""

    return _REFERENCE.sub(group, replacement)


def _places(*alternatives: str) -> Pattern[str] | None:
    # One anchored pattern of whole path prefixes; None if there are none.
    return re.compile("|".join(alternatives), re.IGNORECASE) if alternatives else None


def _matches(patterns: list[Pattern[str]], path: str) -> bool:
    return any(pattern.search(path) for pattern in patterns)


class PathRules:
    """The rules of one session. `remote_names`: the pod resolves names, so its resolv.conf and hosts are read.

    `remote_interfaces`: the pod's interfaces are seen, so its /proc/net and /sys/class/net are read.
    """

    def __init__(self, config: FileConfig, *, remote_names: bool = True, remote_interfaces: bool = True) -> None:
        self._config = config
        self._mode = config.mode
        self._remote_names = remote_names
        self._remote_interfaces = remote_interfaces
        self._not_found = self._list("feature.fs.not_found", config.not_found)
        self._read_write = self._list("feature.fs.read_write", config.read_write)
        self._read_only = self._list("feature.fs.read_only", config.read_only)
        self._local = self._list("feature.fs.local", config.local)
        self._mapping = [(compile_pattern("feature.fs.mapping", key), value) for key, value in config.mapping]
        home = self._place(config.home)
        self._hidden = _places(*(rf"{home}/{re.escape(name)}(?:/|\Z)" for name in _HIDDEN_IN_HOME if home is not None))
        self._aws = _places(*([rf"{home}/\.aws(?:/|\Z)"] if home is not None and config.hides_aws else []))
        self._local_places = _places(*self._own_places(config))
        self._volumes = frozenset(_text(path.rstrip(b"/")) for path in config.volumes)
        self._writable: dict[bytes, bool] = {}

    @staticmethod
    def _list(key: str, patterns: tuple[str, ...]) -> list[Pattern[str]]:
        return [compile_pattern(key, pattern) for pattern in patterns]

    # An absolute path as an escaped pattern without a trailing slash ("" for the root), or None if there is none.
    @staticmethod
    def _place(path: bytes) -> str | None:
        return re.escape(_text(path).rstrip("/")) if path.startswith(b"/") else None

    # The root as working or temporary directory would make everything local, which nobody means.
    def _own_places(self, config: FileConfig) -> list[str]:
        trees = [self._place(config.working_directory), self._place(config.temporary_directory)]
        places = [rf"{tree}(?:/|\Z)" for tree in trees if tree]
        programs = [self._place(executable) for executable in config.executables]
        places += [rf"{program}\Z" for program in programs if program]
        home = self._place(config.home)
        if home is not None:
            places.append(rf"{home}/\.")
        return places

    def decide(self, path: bytes, write: bool) -> Decision:
        """The decision for one path; uncached. `write`: it is to be opened for writing or otherwise changed."""
        if self._mode is FsMode.LOCAL:
            return _LOCAL[Reason.FS_MODE_LOCAL]
        text = _text(path)
        mapped = self._map(text)
        decision = self._decide(mapped, write)
        if decision.route is Route.MISSING or (decision.route is Route.LOCAL and mapped == text):
            return decision
        if decision.route is Route.REMOTE:
            mapped = mapped.replace("/thread-self/", "/self/", 1) if _PROC_NET.match(mapped) else mapped
        return Decision(decision.route, decision.reason, mapped.encode("utf-8", "surrogateescape"))

    def may_write(self, pod_path: bytes) -> bool:
        """Whether a change of this path of the pod is the pod's: as `decide`, for a path that was mapped already; cached."""
        known = self._writable.get(pod_path)
        if known is None:
            known = self._mode is not FsMode.LOCAL and self._decide(_text(pod_path), True).route is Route.REMOTE
            if len(self._writable) >= _CACHE_LIMIT:
                self._writable.clear()
            self._writable[pod_path] = known
        return known

    def may_read(self, pod_path: bytes) -> bool:
        """Whether this path of the pod is what a program sees, for a path that was mapped already; uncached."""
        return self._mode is not FsMode.LOCAL and self._decide(_text(pod_path), False).route is Route.REMOTE

    def local_trees(self) -> tuple[bytes, ...]:
        """Directories, with a slash at the end, of which everything below is local, for reading and for writing.

        Not all of them, only what is plain to see; but for /proc, /sys and /dev, which may be in them all the same.
        """
        config = self._config
        if self._mode is FsMode.LOCAL:
            return (b"/",)
        if config.from_pod or config.mapping or config.not_found or config.read_write or config.read_only:
            return ()
        own = (config.working_directory, config.temporary_directory)
        trees = [b"/%s/" % name for name in _PLAIN_TREES]
        trees += [place.rstrip(b"/") + b"/" for place in own if place.startswith(b"/")]
        hidden = (config.home.rstrip(b"/") + b"/" + name.encode() for name in (*_HIDDEN_IN_HOME, ".aws"))
        elsewhere = [*_WITH_EXCEPTIONS, *config.volumes, *hidden]
        return tuple(tree for tree in dict.fromkeys(trees) if not any(_overlap(tree, place) for place in elsewhere))

    def pattern_of(self, path: bytes, decision: Decision) -> str:
        """The pattern of the user, as written, that led to `decision`, which is that of `path`; empty if none did."""
        patterns = {
            Reason.PATTERN_NOT_FOUND: (self._config.not_found, self._not_found),
            Reason.PATTERN_READ_WRITE: (self._config.read_write, self._read_write),
            Reason.PATTERN_READ_ONLY: (self._config.read_only, self._read_only),
            Reason.PATTERN_LOCAL: (self._config.local, self._local),
        }.get(decision.reason)
        if patterns is None:
            return ""
        mapped = self._map(_text(path))
        return next((text for text, pattern in zip(*patterns, strict=True) if pattern.search(mapped)), "")

    def _map(self, path: str) -> str:
        for pattern, replacement in self._mapping:
            match = pattern.search(path)
            if match is not None:
                return path[: match.start()] + _expand(replacement, match) + path[match.end() :]
        return path

    def _decide(self, path: str, write: bool) -> Decision:
        if _matches(self._not_found, path):
            return _MISSING[Reason.PATTERN_NOT_FOUND]
        if not path.startswith("/"):
            return _LOCAL[Reason.RELATIVE_PATH]
        if _matches(self._read_write, path):
            return _POD[Reason.PATTERN_READ_WRITE]
        if _matches(self._read_only, path):
            return _LOCAL[Reason.PATTERN_READ_ONLY] if write else _POD[Reason.PATTERN_READ_ONLY]
        if _matches(self._local, path):
            return _LOCAL[Reason.PATTERN_LOCAL]
        if not self._remote_names and _NAME_SERVICE.match(path):
            return _LOCAL[Reason.DNS_OFF]
        if self._remote_interfaces and (_PROC_NET.match(path) or _SYS_NET.match(path)):
            return _LOCAL[Reason.DEFAULT_READ_ONLY] if write else _POD[Reason.POD_INTERFACES]
        return self._decide_from_pod(path, write) if self._config.from_pod else self._decide_by_default(path, write)

    def _decide_by_default(self, path: str, write: bool) -> Decision:
        if self._volumes and self._is_on_volume(path):
            return _LOCAL[Reason.VOLUME] if write else _POD[Reason.VOLUME]
        if self._hidden is not None and self._hidden.match(path):
            return _MISSING[Reason.DEFAULT_NOT_FOUND]
        if self._aws is not None and self._aws.match(path):
            return _MISSING[Reason.AWS]
        if _REMOTE.match(path):
            return _LOCAL[Reason.DEFAULT_READ_ONLY] if write else _POD[Reason.DEFAULT_REMOTE]
        if _LOCAL_TREE.match(path) or (self._local_places is not None and self._local_places.match(path)):
            return _LOCAL[Reason.DEFAULT_LOCAL]
        if _LOCAL_NAME.search(path):
            return _LOCAL[Reason.DEFAULT_LOCAL]
        if self._mode is FsMode.LOCAL_WITH_OVERRIDES:
            return _LOCAL[Reason.FS_MODE]
        return self._by_mode(Reason.FS_MODE, write)

    # The pod's own program: nothing is local for being usual on this machine, and nothing of the pod is hidden from it.
    # Temporary files are read again by who wrote them, so they are where writes go.
    def _decide_from_pod(self, path: str, write: bool) -> Decision:
        if _MACHINE.match(path) or (self._mode is not FsMode.WRITE and _TEMPORARY.match(path)):
            return _LOCAL[Reason.FROM_POD_LOCAL]
        return self._by_mode(Reason.FROM_POD, write)

    def _by_mode(self, reason: Reason, write: bool) -> Decision:
        return _LOCAL[Reason.WRITE_ACCESS] if write and self._mode is not FsMode.WRITE else _POD[reason]

    # Volumes have exact names: no pattern, and case counts.
    def _is_on_volume(self, path: str) -> bool:
        while path:
            if path in self._volumes:
                return True
            path = path.rpartition("/")[0]
        return False


# Whether one is in the other or they are the same; letters of either case count as one.
def _overlap(tree: bytes, place: bytes) -> bool:
    tree, place = tree.lower(), place.rstrip(b"/").lower() + b"/"
    return tree.startswith(place) or place.startswith(tree)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
