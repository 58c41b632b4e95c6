"""proc(5): who has a port of this machine, as far as the user that asks may know."""

from __future__ import annotations

import contextlib
import os

_LISTEN = b"0A"


def port_holder(protocol: str, port: int) -> str:
    """The program with a socket on `port` ("tcp": that listens; "udp"): "nginx (pid 4711)", or "" if that cannot be told.

    Reads all of /proc that it may: milliseconds, some more on a machine with thousands of processes.
    """
    inodes = _inodes(protocol, port)
    if not inodes:
        return ""
    names = {b"socket:[%d]" % inode for inode in inodes}
    for pid in sorted((name for name in os.listdir("/proc") if name.isdecimal()), key=int):
        if _has_one_of(pid, names):
            return f"{_command(pid)} (pid {pid})"
    return ""


def _inodes(protocol: str, port: int) -> set[int]:
    found = set()
    for name in (protocol, protocol + "6"):
        with contextlib.suppress(OSError), open(f"/proc/self/net/{name}", "rb") as table:
            next(table, None)
            for fields in map(bytes.split, table):
                is_there = len(fields) >= 10 and int(fields[1].rpartition(b":")[2], 16) == port
                if is_there and (protocol == "udp" or fields[3] == _LISTEN):
                    found.add(int(fields[9]))
    return found


# Processes of other users show nothing; any process may end while we look.
def _has_one_of(pid: str, names: set[bytes]) -> bool:
    folder = os.fsencode(f"/proc/{pid}/fd/")
    try:
        for fd in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(folder + fd) in names:
                    return True
    except OSError:
        pass
    return False


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        name = ""
    return name if name.isprintable() and name else "a process"
