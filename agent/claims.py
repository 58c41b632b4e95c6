"""Who has what in the pod's network namespace: abstract unix sockets, bound and never read.

Such a name belongs to one socket at a time and ends with its process, whatever happens: nothing is ever left to be cleaned
up. The kernel keeps the names of each type of socket apart: claims are datagram sockets. All names are to be seen in
/proc/net/unix, which is how one agent learns of the others, and who holds a port.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
import time
from typing import List, Tuple

PREFIX = "mirrord_trace_"

_UNIX_TABLE = "/proc/net/unix"
_MOST_HOLDER = 48
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9@._+-]+")


def claim(name: str) -> socket.socket:
    """Hold `name` in this network namespace for as long as the socket lives; EADDRINUSE if somebody else does."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind("\0" + name)
    except OSError:
        sock.close()
        raise
    return sock


def is_claimed(name: str) -> bool:
    """Whether anybody holds `name`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect("\0" + name)
        except OSError as error:
            return error.errno != errno.ECONNREFUSED
    return True


def claimed(prefix: str) -> List[str]:
    """The names in this network namespace that begin with `prefix`; none where /proc does not tell."""
    found = set()
    with contextlib.suppress(OSError), open(_UNIX_TABLE, encoding="utf-8", errors="replace") as table:
        for line in table:
            name = line.rstrip("\n").partition("@")[2]
            if name.startswith(prefix):
                found.add(name)
    return sorted(found)


def claim_number(kind: str, numbers: range) -> Tuple[int, socket.socket]:
    """A number that nobody else holds, behind all that are held: who comes later gets a later one. EADDRINUSE: none left."""
    prefix = f"{PREFIX}{kind}_"
    taken = [int(name[len(prefix) :], 16) for name in claimed(prefix) if re.fullmatch("[0-9a-f]+", name[len(prefix) :])]
    last = max((number for number in taken if number in numbers), default=numbers.start - 1)
    for number in [*range(last + 1, numbers.stop), *numbers]:
        try:
            return number, claim(f"{prefix}{number:x}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "too many sessions on this pod")


class PortClaim:
    """The right to steal a port, for as long as it is not closed. OSError EADDRINUSE says in its text who has it."""

    def __init__(self, protocol: str, port: int, holder: str) -> None:
        name = f"{PREFIX}{protocol}_{port}"
        try:
            self._sockets = [claim(name)]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            what = f"port {port} of this pod" if protocol == "tcp" else f"UDP port {port} of this pod"
            raise OSError(errno.EADDRINUSE, f"{what} is stolen {_holder(name)}") from error
        label = _NOT_IN_A_NAME.sub("_", holder)[:_MOST_HOLDER]
        if label:
            # The claim itself is what counts. That a name tells of it is for people.
            with contextlib.suppress(OSError):
                self._sockets.append(claim(f"{name}_{int(time.time()):x}_{label}"))

    def close(self) -> None:
        """Give it back."""
        for sock in self._sockets:
            sock.close()


def _holder(name: str) -> str:
    for found in claimed(name + "_"):
        since, _, label = found[len(name) + 1 :].partition("_")
        if label and re.fullmatch("[0-9a-f]{1,12}", since):
            return f"by {label} since {time.strftime('%H:%M', time.gmtime(int(since, 16)))} UTC"
    return "by another session already"
