"""--trace: one line for each supervised call, like strace's, with where it went and why.

Argument names and kinds come from python-ptrace's prototypes. Imported only when asked for.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import TextIO

from ptrace.syscall.prototypes import SYSCALL_PROTOTYPES

from ...syscalls.abi import sockaddr
from ...syscalls.abi.flags import to_int32
from ...syscalls.actions import Decision, SyscallError
from .call import RESTARTS, UNKNOWN_RESULT, ActiveCall
from .tracee import Tracee

# Calls that python-ptrace 0.9.9 does not know.
_NEWER = {
    "openat2": (("int", "dirfd"), ("const char *", "pathname"), ("struct open_how *", "how"), ("size_t", "size")),
    "faccessat2": (("int", "dirfd"), ("const char *", "pathname"), ("int", "mode"), ("int", "flags")),
}
_SHOWN_BYTES = 200
_AT_FDCWD = -100


class Tracer:
    """Writes the lines to `output`."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output or sys.stderr

    def observe(self, tracee: Tracee, call: ActiveCall, result: int, decision: Decision) -> None:
        """See `driver.Observer`."""
        arguments = ", ".join(_arguments(tracee, call))
        path = f" {_text(decision.path)}" if decision.path else ""
        self._output.write(
            f"[{tracee.tid}] {call.name}({arguments}) = {_result(result)} "
            f"<{decision.route.value}{path}: {decision.reason.value}>\n"
        )
        self._output.flush()

    def skipped(self, pid: int, program: bytes, reason: str) -> None:
        """See `skipping.Told`."""
        self._output.write(f"[{pid}] {_text(program)} is not supervised: {reason}\n")
        self._output.flush()


def _arguments(tracee: Tracee, call: ActiveCall) -> list[str]:
    kinds = _NEWER.get(call.name) or SYSCALL_PROTOTYPES.get(call.name, ("long", ()))[1]
    shown = []
    for position, (kind, name) in enumerate(kinds[:6]):
        shown.append(_argument(tracee, call, position, kind, name))
    return shown


def _argument(tracee: Tracee, call: ActiveCall, position: int, kind: str, name: str) -> str:
    value = call.args[position]
    try:
        if kind.replace(" ", "") in ("constchar*", "char*") and name not in ("buf", "buffer"):
            return _text(tracee.read_string(value)) if value else "NULL"
        if "sockaddr" in kind and call.name in ("connect", "bind", "sendto"):
            return _address(tracee.read(value, min(to_int32(call.args[position + 1]), 128)))
    except (SyscallError, ValueError):
        return f"{value:#x}"
    if "*" in kind or value > 0x7FFFFFFFFFFF:
        signed = to_int32(value)
        return ("NULL" if not value else f"{value:#x}") if "*" in kind else str(signed)
    number = to_int32(value)
    if number == _AT_FDCWD:
        return "AT_FDCWD"
    return f"{number:#x}" if "flag" in name else str(number)


def _address(content: bytes) -> str:
    decoded = sockaddr.decode(content)
    if isinstance(decoded, sockaddr.Internet):
        version = socket.AF_INET if len(decoded.address.ip) == 4 else socket.AF_INET6
        text = socket.inet_ntop(version, decoded.address.ip)
        return f"{text}:{decoded.address.port}" if version == socket.AF_INET else f"[{text}]:{decoded.address.port}"
    if isinstance(decoded, sockaddr.Unix):
        return f"unix:{_text(decoded.path)}"
    return f"family {decoded}"


def _text(content: bytes) -> str:
    shown = content[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return f'"{shown}"' + ("…" if len(content) > _SHOWN_BYTES else "")


def _result(result: int) -> str:
    if result == UNKNOWN_RESULT:
        return "?"
    if result in RESTARTS:
        return "? (a signal came first; the kernel restarts the call or ends it with EINTR)"
    if -4096 < result < 0:
        return f"-1 {errno.errorcode.get(-result, str(-result))}"
    return str(result)
