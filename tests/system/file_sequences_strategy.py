"""Random sequences of file operations, for tests/programs/file_sequences.py: few names, so that operations meet.

An operation is a list as that takes it. Slots are open files; None instead is the working directory.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Operation = list[Any]
Strategy = st.SearchStrategy[Any]

MOST_OPERATIONS = 25
_FEWEST_OPERATIONS = 5
_TRIES = 6
_SLOTS = 3
_NAMELESS = 0o20000000 | os.O_DIRECTORY

# The names: files, directories, links, by intention; anything may become of them. One is no UTF-8, one as long as
# can be, one too long.
_SHORT = ["a", "b", "d", "e", "s", "t", "\xff\xfe"]
_LONG = "n" * 255
_TOO_LONG = "m" * 256

# What most sequences begin with: a file, a directory with a file, links to both, a nameless way back up.
PRESET: list[Operation] = [
    ["open", 0, None, "a", os.O_RDWR | os.O_CREAT, 0o644],
    ["write", 0, 7, 5000],
    ["mkdir", None, "d", 0o755],
    ["open", 1, None, "d/a", os.O_RDWR | os.O_CREAT, 0o600],
    ["write", 1, 8, 300],
    ["symlink", "a", None, "s"],
    ["symlink", "d", None, "t"],
]


def sequences(number: int, start: int) -> list[list[Operation]]:
    """Up to `number` sequences, always the same ones for the same `start`.

    Most of what hypothesis makes is a variation of what it made before, which here only costs time: what is not new for the
    most part is left out.
    """
    found: list[list[Operation]] = []
    known: set[str] = set()

    @seed(start)
    @settings(
        max_examples=number * _TRIES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(SEQUENCES)
    def collect(sequence: list[Operation]) -> None:
        pairs = {repr(pair) for pair in itertools.pairwise(sequence) if pair[0] not in PRESET}
        if len(found) < number and len(pairs & known) * 3 <= len(pairs):
            known.update(pairs)
            found.append(sequence)

    collect()
    return found


def _weighted(*choices: tuple[int, Any]) -> Strategy:
    # Weight, value or strategy.
    return st.sampled_from([choice for weight, choice in choices for _ in range(weight)]).flatmap(_one)


def _one(choice: Any) -> Strategy:
    return choice if isinstance(choice, st.SearchStrategy) else st.just(choice)


def _operation(name: str, *arguments: Any) -> Strategy:
    return st.tuples(st.just(name), *map(_one, arguments)).map(list)


def _among(*values: Any) -> Strategy:
    return st.sampled_from(values)


def _flags(*single: int) -> Strategy:
    return st.lists(st.sampled_from(single), max_size=3, unique=True).map(lambda flags: _union(*flags))


def _union(*flags: int) -> int:
    union = 0
    for flag in flags:
        union |= flag
    return union


# -- arguments ----------------------------------------------------------------------------------------------------------

_NAME = st.sampled_from([*_SHORT * 4, _LONG, _TOO_LONG])
_PATH = _weighted(
    (10, _NAME),
    (5, st.tuples(_among("d", "e", "t", "s"), _NAME).map("/".join)),
    (2, st.tuples(_among("@", "./", "..//", "d/..", "t/..", "@/d", "../s"), _NAME).map("/".join)),
    (2, st.tuples(_NAME, _among("/", "/.", "/..", "//")).map("".join)),
    (1, _among(".", "..", "", "@", "d/b/e", "d/../d/./a", "/proc/self/cwd/a", "@/t/../a")),
)
_TARGET = _weighted(
    (4, _NAME), (2, st.tuples(_among("@", "..", "d", "../s"), _NAME).map("/".join)),
    (1, _among("s", "nowhere/x", "@/d", ".", "..", "d/")),
)  # fmt: skip
_SLOT = st.integers(0, _SLOTS - 1)
_AT = st.sampled_from([None] * 5 + list(range(_SLOTS)))
_MODE = _among(0o644, 0o600, 0o755, 0o777, 0o400, 0o000, 0o666, 0o2755, 0o1777, 0o4755)
_SIZE = st.sampled_from([0, 1, 5, 100, 100, 100, 1000, 4095, 4096, 4097, 10000, 70000, 140000])
_OFFSET = st.sampled_from([0, 0, 0, 1, 50, 99, 100, 4096, 5000, 8192, 65536, 150000, 300000])
_SEED = st.integers(0, 6)
_VECTOR = st.lists(_SIZE, min_size=1, max_size=3)
_OPTIONAL_OFFSET = st.one_of(st.none(), _OFFSET)
_BOOL = st.booleans()
_ACCESS = _among(os.O_RDONLY, os.O_RDWR, os.O_RDWR, os.O_WRONLY)
_HOW = _weighted(
    (4, 0), (5, os.O_CREAT), (2, os.O_CREAT | os.O_EXCL), (2, os.O_CREAT | os.O_TRUNC), (1, os.O_TRUNC),
    (2, os.O_CREAT | os.O_APPEND), (1, os.O_APPEND), (2, os.O_NOFOLLOW), (1, os.O_CREAT | os.O_NOFOLLOW),
    (1, os.O_SYNC), (1, os.O_CREAT | os.O_DIRECTORY),
)  # fmt: skip
_OPEN_FLAGS = _weighted(
    (12, st.tuples(_ACCESS, _HOW).map(lambda parts: parts[0] | parts[1])),
    (4, os.O_RDONLY | os.O_DIRECTORY), (1, os.O_PATH), (1, os.O_PATH | os.O_NOFOLLOW), (1, os.O_PATH | os.O_DIRECTORY),
    (1, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW),
)  # fmt: skip
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH, _IN_ROOT = 1, 2, 4, 8, 16
_RESOLVE = _among(
    0, _BENEATH, _IN_ROOT, _NO_SYMLINKS, _NO_MAGICLINKS, _NO_XDEV, _BENEATH | _NO_SYMLINKS, _IN_ROOT | _NO_SYMLINKS
)
_ALLOCATE = _among(0, 1, 3, 3, 0x10, 0x11, 0x8)
_TIME_NS = _among(0, 1_000_000_000_000_000_001, 123_456_789, -5_000_000_001, 1_234_567_890_000_000_000)
_XATTR = _among("user.a", "user.a", "user.b", "user." + "x" * 200, "user." + "x" * 260, "nothing")
_XATTR_OF = st.one_of(_PATH, _PATH, _SLOT)
_LOCK = _among(fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_WRLCK, fcntl.F_UNLCK)
_RANGE = _among((0, 0), (0, 10), (5, 10), (100, 1), (50, 0))
_SEEK = _among(os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE)
_NOFOLLOW, _EMPTY_PATH, _EACCESS = 0x100, 0x1000, 0x200

# -- operations ---------------------------------------------------------------------------------------------------------

_OPENING = [
    (12, _operation("open", _SLOT, _AT, _PATH, _OPEN_FLAGS, _MODE)),
    (1, _operation("open", _SLOT, _AT, _among(".", "d", "d/"), _among(_NAMELESS | os.O_RDWR, _NAMELESS | os.O_WRONLY), _MODE)),
    (2, _operation("openat2", _SLOT, _AT, _PATH, _OPEN_FLAGS, _MODE, _RESOLVE)),
    (1, _operation("dup", _SLOT, _SLOT)),
    (2, _operation("close", _SLOT)),
    (1, _operation("getfl", _SLOT)),
    (1, _operation("nameless", _SLOT, _AT, _PATH)),
    (1, _operation("reopen", _SLOT, _SLOT, _among(os.O_RDONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_PATH))),
]
_CONTENT = [
    (4, _operation("read", _SLOT, _SIZE)),
    (4, _operation("pread", _SLOT, _SIZE, _OFFSET)),
    (1, _operation("readv", _SLOT, _VECTOR)),
    (1, _operation("preadv2", _SLOT, _VECTOR, _OFFSET, _among(0, os.RWF_HIPRI))),
    (5, _operation("write", _SLOT, _SEED, _SIZE)),
    (4, _operation("pwrite", _SLOT, _SEED, _SIZE, _OFFSET)),
    (1, _operation("writev", _SLOT, _SEED, _VECTOR)),
    (1, _operation("pwritev2", _SLOT, _SEED, _VECTOR, _OFFSET, _among(0, os.RWF_DSYNC, os.RWF_SYNC, os.RWF_APPEND))),
    (4, _operation("lseek", _SLOT, st.one_of(_OFFSET, _among(-1, -100)), _SEEK)),
    (1, _operation("truncate", _PATH, _OFFSET)),
    (2, _operation("ftruncate", _SLOT, st.one_of(_OFFSET, st.just(-1)))),
    (2, _operation("fallocate", _SLOT, _ALLOCATE, _OFFSET, _SIZE)),
    (1, _operation("fsync", _SLOT, _BOOL)),
    (1, _operation("map_write", _SLOT, _OFFSET, _SEED, _SIZE, _BOOL)),
    (1, _operation("map_read", _SLOT, _BOOL)),
    (1, _operation("sendfile", _SLOT, _SLOT, _OPTIONAL_OFFSET, _SIZE)),
    (1, _operation("copy_range", _SLOT, _SLOT, _SIZE, _OPTIONAL_OFFSET, _OPTIONAL_OFFSET)),
    (1, _operation("splice", _SLOT, _SLOT, _SIZE, _OPTIONAL_OFFSET)),
]
_NAMES = [
    (3, _operation("mkdir", _AT, _PATH, _MODE)),
    (2, _operation("rmdir", _AT, _PATH)),
    (4, _operation("unlink", _AT, _PATH)),
    (5, _operation("rename", _AT, _PATH, _AT, _PATH)),
    (3, _operation("renameat2", _AT, _PATH, _AT, _PATH, _among(0, 1, 2, 2, 3))),
    (3, _operation("link", _AT, _PATH, _AT, _PATH, _BOOL)),
    (3, _operation("symlink", _TARGET, _AT, _PATH)),
    (1, _operation("mkfifo", _AT, _PATH, _MODE)),
    (2, _operation("readlink", _AT, _PATH)),
    (3, _operation("list", _AT, _PATH, st.integers(0, 4))),
    (1, _operation("list_again", _SLOT)),
    (2, _operation("chdir", _PATH)),
    (1, _operation("fchdir", _SLOT)),
    (2, _operation("getcwd")),
]
_ATTRIBUTES = [
    (5, _operation("stat", _AT, _PATH, _BOOL)),
    (4, _operation("fstat", _SLOT)),
    (2, _operation("statx", _AT, _PATH, _among(0, _NOFOLLOW, _EMPTY_PATH))),
    (2, _operation("access", _AT, _PATH, _among(0, 1, 2, 4, 6, 7), _among(0, _NOFOLLOW, _EACCESS, _EMPTY_PATH))),
    (1, _operation("chmod", _PATH, _MODE)),
    (1, _operation("fchmod", _SLOT, _MODE)),
    (1, _operation("fchmodat", _AT, _PATH, _MODE, _among(0, _NOFOLLOW, _EMPTY_PATH))),
    (1, _operation("chown", _AT, _PATH, _BOOL)),
    (1, _operation("fchown", _SLOT)),
    (2, _operation("utime", _AT, _PATH, _TIME_NS, _TIME_NS, _BOOL)),
    (1, _operation("touch", _SLOT)),
    (1, _operation("umask", _among(0, 0o022, 0o077, 0o777))),
    (2, _operation("setxattr", _XATTR_OF, _XATTR, _SEED, _among(0, 3, 100), _among(0, 0, 1, 2), _BOOL)),
    (2, _operation("getxattr", _XATTR_OF, _XATTR, _BOOL)),
    (1, _operation("listxattr", _XATTR_OF, _BOOL)),
    (1, _operation("removexattr", _XATTR_OF, _XATTR, _BOOL)),
]
_LOCKS = [
    (1, _operation("flock", _SLOT, _among(fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN))),
    (1, st.tuples(_among("setlk", "getlk"), _SLOT, _LOCK, _RANGE, _BOOL).map(lambda parts: [*parts[:3], *parts[3], parts[4]])),
]
_SIMPLE = _weighted(*_OPENING, *_CONTENT, *_NAMES, *_ATTRIBUTES, *_LOCKS)
_LOCKING = _weighted(*_LOCKS, (1, _SIMPLE))
_RARE = [
    (4, st.lists(_SIMPLE, min_size=1, max_size=4).map(lambda operations: ["child", operations])),
    (4, st.lists(_LOCKING, min_size=1, max_size=4).map(lambda operations: ["child", operations])),
    (1, _operation("sleep")),
    (2, _operation("deep", _among("d" * 200, _LONG, "d", "\xff\xfe"), _among(2, 3, 24))),
]
_OPERATION = _weighted((60, _SIMPLE), (1, _weighted(*_RARE)))
_SIZES = st.integers(_FEWEST_OPERATIONS, MOST_OPERATIONS)
_BODY = _SIZES.flatmap(lambda size: st.lists(_OPERATION, min_size=size, max_size=size))
SEQUENCES = st.tuples(_among(PRESET, PRESET, PRESET, []), _BODY).map(lambda parts: [*parts[0], *parts[1]])
"""All of them."""
