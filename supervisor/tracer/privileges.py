"""Set-user-ID programs under no_new_privs: they run without their privileges, which nothing tells the user.

An ordinary user's seccomp filter takes no_new_privs (prctl(2)). sudo, su and ping then fail in ways of their own.
"""

from __future__ import annotations

import functools
import os
import stat

_CAPABILITIES = "security.capability"


def lost(tid: int) -> str:
    """At an exec stop: the line for the user if the program would have more privileges without us, else ""."""
    executable = f"/proc/{tid}/exe"
    try:
        found = os.stat(executable)
        if not found.st_mode & (stat.S_ISUID | stat.S_ISGID) and not _has_capabilities(executable):
            return ""
        if _had_no_new_privileges():
            return ""
        fields = _fields(tid)
        user, group = int(fields[b"Uid"][1]), int(fields[b"Gid"][1])
        if fields[b"NoNewPrivs"][0] == b"0" or not _is_less(found, user, group, executable):
            return ""
        program = os.readlink(executable)
    except (OSError, KeyError):
        return ""  # it has been killed meanwhile
    return (
        f"{program} runs without the privileges that its file gives it: supervision by an ordinary user needs "
        "no_new_privs; run mirrord-trace as root if the program needs them"
    )


def _is_less(found: os.stat_result, user: int, group: int, executable: str) -> bool:
    mode = found.st_mode
    return (
        bool(mode & stat.S_ISUID and found.st_uid != user)
        or bool(mode & stat.S_ISGID and mode & stat.S_IXGRP and found.st_gid != group)
        or _has_capabilities(executable)
    )


def _has_capabilities(executable: str) -> bool:
    try:
        return bool(os.getxattr(executable, _CAPABILITIES))
    except OSError:
        return False


@functools.cache
def _had_no_new_privileges() -> bool:
    # Then the program would have got nothing without us, either.
    return _fields(os.getpid())[b"NoNewPrivs"][0] == b"1"


def _fields(pid: int) -> dict[bytes, list[bytes]]:
    with open(f"/proc/{pid}/status", "rb") as status:
        return {name: value.split() for name, _, value in (line.partition(b":") for line in status)}
