"""Starts the program under the tracer: fork, PTRACE_SEIZE, filter, execve(2).

The child waits for the tracer before it puts the filter on itself, since RET_TRACE without a tracer is ENOSYS. What the
tool changed for itself (signal mask and dispositions, descriptor limit) is put back, so that the program starts as if
the shell had started it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ..errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, UsageError
from ..forking import fork
from . import filter as seccomp
from . import ptrace
from .doorbell import FORBIDDEN

OPTIONS = (
    ptrace.OPTION_TRACESYSGOOD
    | ptrace.OPTION_TRACEFORK
    | ptrace.OPTION_TRACEVFORK
    | ptrace.OPTION_TRACECLONE
    | ptrace.OPTION_TRACEEXEC
    | ptrace.OPTION_TRACESECCOMP
    | ptrace.OPTION_EXITKILL
)


_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_RESET = (*_IGNORED_BY_PYTHON, signal.SIGCHLD)
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_libc = ctypes.CDLL(None)
_HAND_ON = frozenset({"ash", "bash", "busybox", "dash", "ksh", "ksh93", "mksh", "sh", "timeout", "yash", "zsh"})


@dataclass(frozen=True)
class Inherited:
    """What the tool found at its start and the program must find again."""

    signal_mask: set[int]
    open_files: tuple[int, int]
    ignored: frozenset[int] = frozenset()
    """Signals that the caller ignores and so the program, too; of those that Python or the tool has reset by then."""
    is_subreaper: bool = False
    """Whether orphans among its descendants come to it (PR_SET_CHILD_SUBREAPER), which fork(2) does not hand on."""

    @classmethod
    def now(cls, ignored: frozenset[int] = frozenset()) -> Inherited:
        """Call before the tool changes anything more; `ignored`: what it has reset already."""
        return cls(
            {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())},
            resource.getrlimit(resource.RLIMIT_NOFILE),
            ignored | _ignored_by_caller(os.getppid()),
            _is_subreaper(),
        )


class Launched:
    """The first process. Until it has executed the program, its stops mean nothing."""

    def __init__(self, pid: int, failure: int) -> None:
        self.pid = pid
        self._failure = failure

    def failure(self, program: str) -> UsageError | None:
        """After it ended without executing anything: why. None if it did start."""
        report = os.read(self._failure, 64).split()
        if len(report) != 2:
            return None
        step, number = report[0].decode(), int(report[1])
        if step == "chdir":
            return UsageError(f"cannot start in the pod's working directory: {os.strerror(number)}")
        if number == errno.EBUSY and step != "exec":
            return UsageError("cannot supervise by seccomp user notification what is supervised by it already")
        if step != "exec":
            return UsageError(f"cannot put the seccomp filter on the program: {os.strerror(number)}; see mirrord-trace doctor")
        if number == errno.EACCES and not _exists(program):
            number = errno.ENOENT  # a folder on PATH that may not be searched is no program that may not be run
        status = EXIT_NOT_FOUND if number in (errno.ENOENT, errno.ENOTDIR) else EXIT_NOT_EXECUTABLE
        hint = " (is it on PATH?)" if number == errno.ENOENT and "/" not in program else ""
        return UsageError(f"cannot execute {program}: {os.strerror(number)}{hint}", status)


def _exists(program: str) -> bool:
    folders = [""] if "/" in program else os.get_exec_path()
    return any(os.path.lexists(os.path.join(folder, program)) for folder in folders)


def _ignored_by_caller(parent: int) -> frozenset[int]:
    # Nothing of this process tells what Python has overwritten at its start. A parent that ignores a signal hands that
    # on if it is a shell; others (Python, Node, cargo) mostly ignore SIGPIPE for themselves, and reset it for children.
    try:
        if os.path.basename(os.readlink(f"/proc/{parent}/exe")) not in _HAND_ON:
            return frozenset()
        with open(f"/proc/{parent}/status", "rb") as status:
            masks = [int(line.split()[1], 16) for line in status if line.startswith(b"SigIgn:")]
    except OSError:
        return frozenset()
    return frozenset(number for number in _IGNORED_BY_PYTHON if any(mask >> number - 1 & 1 for mask in masks))


def _is_subreaper() -> bool:
    is_one = ctypes.c_int(0)
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(is_one), 0, 0, 0)
    return bool(is_one.value)


@dataclass(frozen=True)
class Start:
    """What is started: `arguments` with `environment` under the seccomp programs `filters`.

    `path`: the file to execute, if it is not to be looked for in PATH. `directory`: where to start, if not here.
    """

    arguments: Sequence[str]
    environment: Mapping[bytes, bytes]
    filters: Sequence[bytes]
    path: bytes = b""
    directory: bytes = b""


def launch(start: Start, inherited: Inherited) -> Launched:
    """Start it; returns before execve(2). UsageError if the kernel does not let this process trace its own child."""
    failure_read, failure_write = os.pipe()
    go_read, go_write = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(go_write)
        become(start, inherited, go_read, failure_write, _install)
    os.close(failure_write)
    os.close(go_read)
    try:
        ptrace.seize(pid, OPTIONS)
    except PermissionError:
        os.close(go_write)
        os.waitpid(pid, 0)
        raise UsageError(FORBIDDEN) from None
    os.write(go_write, b".")
    os.close(go_write)
    return Launched(pid, failure_read)


def become(start: Start, inherited: Inherited, go: int, failure: int, install: Callable[[bytes], None]) -> NoReturn:
    """In the child: wait for a byte on `go`, `install` each filter, execute. What goes wrong is told on `failure`."""
    step = "start"
    try:
        if os.read(go, 1) != b".":
            os._exit(EXIT_NOT_EXECUTABLE)
        resource.setrlimit(resource.RLIMIT_NOFILE, inherited.open_files)
        for number in _RESET:
            signal.signal(number, signal.SIG_IGN if number in inherited.ignored else signal.SIG_DFL)
        if inherited.is_subreaper:
            _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # A Ctrl-C that waits since the fork must end this process, not raise in it; ignored by the shell, it stays so.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if start.directory:
            step = "chdir"
            os.chdir(start.directory)
        step = "filter"
        for code in start.filters:
            install(code)
        step = "exec"
        _set_signal_mask(inherited.signal_mask)
        _execute(start)
    except OSError as error:
        os.write(failure, f"{step} {error.errno or errno.EIO}".encode())
    except BaseException as error:  # the child of a fork must not return into the caller's stack
        sys.stderr.write(f"mirrord-trace: {error!r}\n")
    os._exit(EXIT_NOT_FOUND)


def _set_signal_mask(numbers: set[int]) -> None:
    # Past the C library, which keeps two signals to itself.
    sysno = {"x86_64": 14, "aarch64": 135}[os.uname().machine]
    mask = ctypes.c_uint64(sum(1 << number - 1 for number in numbers))
    _libc.syscall(ctypes.c_long(sysno), ctypes.c_long(signal.SIG_SETMASK), ctypes.byref(mask), None, ctypes.c_long(8))


def _install(code: bytes) -> None:
    # With CAP_SYS_ADMIN no_new_privs is not needed, and setuid programs keep working.
    try:
        seccomp.install(code, no_new_privs=False)
    except PermissionError:
        seccomp.install(code, no_new_privs=True)


def _execute(start: Start) -> None:
    arguments, environment = list(start.arguments), dict(start.environment)
    try:
        if start.path:
            os.execve(start.path, arguments, environment)
        os.execvpe(arguments[0], arguments, environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # execvp(3): a text file without an interpreter line is a shell script.
        script = [os.fsdecode(start.path), *arguments[1:]] if start.path else arguments
        os.execve("/bin/sh", ["/bin/sh", *script], environment)
