"""Whether a running process can be attached, and if not, why not: one line, with the remedy."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

from ..descendants import parent_of
from ..errors import EXIT_USAGE, UsageError
from ..forking import fork
from ..notify.guard import NAME as GUARD
from ..tracer import ptrace
from .tasks import named, status

_NAMESPACES = {"pid": "process", "mnt": "mount", "net": "network", "user": "user"}
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_CAP_SYS_PTRACE = 1 << 19
_ELF = b"\x7fELF"
_CLASS_AT = 4
_CLASS_32 = 1


def examine(pid: int) -> None:
    """UsageError if `pid` cannot be attached. Nothing is done to the process but a trial that it does not notice."""
    fields = status(pid)
    if pid <= 0 or not fields:
        raise UsageError(f"there is no process {pid}", EXIT_USAGE)
    _check_number(pid, fields)
    _check_owner(pid, fields)
    _check_surroundings(pid)
    _try(pid)


def _check_number(pid: int, fields: dict[str, str]) -> None:
    if int(fields["Tgid"]) != pid:
        raise UsageError(f"{pid} is a thread of {named(int(fields['Tgid']))}: give that number", EXIT_USAGE)
    if pid == 1:
        raise UsageError("process 1 holds up this machine; it is not attached", EXIT_USAGE)
    if pid in _own_line():
        raise UsageError(f"mirrord-trace itself runs below {named(pid)}: start it from somewhere else", EXIT_USAGE)
    if fields["State"][0] in "ZX":
        raise UsageError(f"{named(pid)} has ended already")
    if "VmSize" not in fields:
        raise UsageError(f"{named(pid)} is a thread of the kernel", EXIT_USAGE)


def _own_line() -> set[int]:
    line = {os.getpid()}
    pid = os.getpid()
    while pid := parent_of(pid):
        line.add(pid)
    return line


def _check_owner(pid: int, fields: dict[str, str]) -> None:
    tracer = int(fields["TracerPid"])
    if tracer:
        raise UsageError(f"{named(pid)} is traced by {named(tracer)}, and a process has one tracer: end that first")
    if _has_guard(pid):
        raise UsageError(f"{named(pid)} is supervised by mirrord-trace already: end that first")
    uid = int(fields["Uid"].split()[1])
    if uid != os.geteuid() and not _may_trace_all():
        raise UsageError(f"{named(pid)} belongs to {_user(uid)}: run mirrord-trace as that user or as root")


def _has_guard(pid: int) -> bool:
    while pid := parent_of(pid):
        if status(pid).get("Name") == GUARD:
            return True
    return False


def _may_trace_all() -> bool:
    return bool(int(status(os.getpid()).get("CapEff", "0"), 16) & _CAP_SYS_PTRACE)


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"


def _check_surroundings(pid: int) -> None:
    try:
        for name, words in _NAMESPACES.items():
            if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
                raise UsageError(
                    f"{named(pid)} is in another {words} namespace (a container?): run mirrord-trace in there"
                )
        if os.readlink(f"/proc/{pid}/root") != os.readlink("/proc/self/root"):
            raise UsageError(f"{named(pid)} has another root directory (chroot), which is not supported")
        if is_of_32_bits(f"/proc/{pid}/exe"):
            raise UsageError(f"{named(pid)} is a 32-bit program, which is not supported: build it for 64 bit")
    except FileNotFoundError:
        raise UsageError(f"{named(pid)} has ended") from None
    except PermissionError:
        raise not_permitted(pid) from None


def is_of_32_bits(program: str) -> bool:
    """elf(5): whether the file is such a program."""
    with open(program, "rb") as file:
        return file.read(_CLASS_AT + 1) == _ELF + bytes([_CLASS_32])


# What PTRACE_SEIZE says, in a child that then ends: a process that is seized, and not stopped, goes on without a trace.
def _try(pid: int) -> None:
    child = fork()
    if child == 0:
        number = errno.EIO
        try:
            ptrace.seize(pid, 0)
            number = 0
        except OSError as error:
            number = error.errno or number
        finally:
            os._exit(number)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise not_permitted(pid)


def not_permitted(pid: int) -> UsageError:
    """Why the kernel does not let us trace a process that nothing else speaks against, or that it has ended."""
    if status(pid).get("State", "Z")[0] in "ZX":
        return UsageError(f"process {pid} has ended")
    scope = _yama_scope()
    if not _may_trace_all() and scope == 1:
        return UsageError(
            f"may not attach to {named(pid)}: Yama's ptrace_scope is 1, so only its ancestors may trace it; run "
            "mirrord-trace as root, or set kernel.yama.ptrace_scope to 0 (sysctl), or start the program with mirrord-trace"
        )
    if not _may_trace_all() and scope == 2:
        return UsageError(f"may not attach to {named(pid)}: Yama's ptrace_scope is 2; run mirrord-trace as root")
    if scope == 3:
        return UsageError(f"may not attach to {named(pid)}: Yama's ptrace_scope is 3, which forbids all tracing until reboot")
    return UsageError(
        f"may not attach to {named(pid)}: it has privileges of its own (set-user-ID, capabilities), or has closed itself "
        "to tracers (PR_SET_DUMPABLE), or a sandbox has no ptrace; run mirrord-trace as root"
    )


def _yama_scope() -> int:
    try:
        return int(_YAMA.read_text())
    except (OSError, ValueError):
        return 0
