"""What this machine must offer: a kernel that lets us trace, and loopback networking as connect(2) needs it.

Where a setting and the truth can differ (containers, security modules) the thing itself is tried, in a child process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from ..notify.availability import Support, support
from ..tracer import compiled
from .file_system import mounting
from .finding import Finding

_CAP_SYS_PTRACE = 19
_CAP_SYS_ADMIN = 21
_CLONE_NEWUSER = 0x10000000
_PTRACE_SEIZE = 0x4206
# pidfd_getfd(2) and openat2(2) came with 5.6, PTRACE_GET_SYSCALL_INFO with 5.3.
_OLDEST_KERNEL = (5, 6)
_TRACE_WHY = "the program's system calls are seen by ptrace(2)"
_YAMA = "kernel.yama.ptrace_scope"


def kernel(release: str | None = None) -> Finding:
    """uname(2): is the kernel new enough?"""
    release = release or platform.release()
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    why = "pidfd_getfd(2), openat2(2) and PTRACE_GET_SYSCALL_INFO are needed"
    if version >= _OLDEST_KERNEL:
        return Finding("kernel", "ok", f"Linux {release}", why)
    return Finding("kernel", "missing", f"Linux {release}", why, "use a machine with Linux 5.6 or later")


def architecture(machine: str | None = None) -> Finding:
    """uname(2): are there register layouts and system call numbers for this machine?"""
    machine = machine or platform.machine()
    why = "registers and system call numbers differ from machine to machine"
    if machine == "x86_64":
        return Finding("architecture", "ok", machine, why)
    if machine in ("aarch64", "arm64"):
        return Finding("architecture", "warn", machine, why, "support is there but little tested: report what fails")
    return Finding("architecture", "missing", machine, why, "use an x86-64 machine")


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """The interpreter that runs the supervisor."""
    what = f"Python {'.'.join(map(str, version[:3]))}"
    why = "the supervisor is written for 3.10"
    if version >= (3, 10):
        return Finding("python", "ok", what, why)
    return Finding("python", "missing", what, why, "install mirrord-trace with Python 3.10 or later")


def loop() -> Finding:
    """The innermost loop of the tracer: in C, or in Python, which is slower and otherwise the same."""
    why = "a stop of a local call costs less where the innermost loop is compiled"
    if compiled.name() == "compiled":
        return Finding("loop", "ok", "compiled", why)
    if os.environ.get(compiled.VARIABLE):
        return Finding("loop", "ok", f"in Python, by {compiled.VARIABLE}", why)
    return Finding("loop", "ok", "in Python: there was no C compiler when mirrord-trace was installed", why)


def seccomp(proc: Path = Path("/proc")) -> Finding:
    """seccomp(2): can a filter hand system calls to the tracer?"""
    why = "a filter stops only the system calls that may concern the pod"
    actions = _read(proc / "sys/kernel/seccomp/actions_avail").split()
    if "trace" in actions:
        return Finding("seccomp", "ok", "filters may stop the program for its tracer", why)
    what = "the kernel was built without seccomp filters" if not actions else "the action `trace` is not available"
    return Finding("seccomp", "missing", what, why, "use a kernel with CONFIG_SECCOMP_FILTER")


def user_notification(offered: Callable[[], Support] = support) -> Finding:
    """seccomp_unotify(2): tried on a child of our own."""
    why = "--engine notify, by which programs may be debugged, is told of system calls that way"
    found = offered()
    if found is Support.KILLABLE:
        return Finding("notification", "ok", "a filter may tell us of system calls", why)
    if found is Support.PLAIN:
        what = "there, but signals interrupt calls that have begun, which are then made twice"
        return Finding("notification", "warn", what, why, "use Linux 5.19 or later for --engine notify")
    if found is Support.TAKEN:
        remedy = "run mirrord-trace outside of the other one, or outside of the container"
        return Finding("notification", "warn", "somebody else is told of this process's system calls", why, remedy)
    if found is Support.FORBIDDEN:
        return Finding("notification", "warn", "pidfd_getfd(2) is forbidden", why, "use --engine ptrace, the default")
    remedy = "use --engine ptrace, the default; debuggers take Linux 5.9 or later"
    return Finding("notification", "warn", "filters cannot notify of system calls here", why, remedy)


def yama(proc: Path = Path("/proc")) -> Finding:
    """ptrace(2), "ptrace_scope": does the Yama module let us trace our own children?"""
    text = _read(proc / "sys/kernel/yama/ptrace_scope").strip()
    if text in ("", "0", "1"):
        what = {"": "not active", "0": f"{_YAMA}=0", "1": f"{_YAMA}=1: a process may trace its children"}[text]
        return Finding("yama", "ok", what, _TRACE_WHY)
    if text == "2":
        if has_capability(_CAP_SYS_PTRACE, proc):
            return Finding("yama", "ok", f"{_YAMA}=2, and CAP_SYS_PTRACE is there", _TRACE_WHY)
        remedy = f"sudo sysctl -w {_YAMA}=1, or run mirrord-trace with CAP_SYS_PTRACE"
        return Finding("yama", "missing", f"{_YAMA}=2: only CAP_SYS_PTRACE may trace", _TRACE_WHY, remedy)
    remedy = f"set {_YAMA}=1 in /etc/sysctl.d and restart the machine (3 cannot be lowered)"
    return Finding("yama", "missing", f"{_YAMA}={text}: nobody may trace", _TRACE_WHY, remedy)


def nested_tracing(proc: Path = Path("/proc")) -> Finding:
    """ptrace(2): a thread has one tracer. Are we traced already, so that our children may be, too?"""
    tracer = _status(proc).get("TracerPid", "0")
    why = "a process can have one tracer only: no debugger, strace -f or second mirrord-trace around it"
    if tracer == "0":
        return Finding("nested tracing", "ok", "this process is not traced", why)
    name = _read(proc / tracer / "comm").strip() or "unknown"
    what = f"this process is traced by {name} (pid {tracer})"
    return Finding("nested tracing", "missing", what, why, f"run mirrord-trace outside of {name}")


def tracing(attempt: Callable[[], int] | None = None) -> Finding:
    """ptrace(2): tried on a child of our own."""
    error = (attempt or _try_seize)()
    if error == 0:
        return Finding("ptrace", "ok", "a child process could be traced", _TRACE_WHY)
    what = f"tracing a child failed: {os.strerror(error)}"
    remedy = "in a container allow ptrace (docker run --cap-add SYS_PTRACE, or another seccomp profile)"
    return Finding("ptrace", "missing", what, _TRACE_WHY, remedy)


def no_new_privs(proc: Path = Path("/proc")) -> Finding:
    """prctl(2), PR_SET_NO_NEW_PRIVS: what becomes of set-user-ID programs."""
    why = "without CAP_SYS_ADMIN a filter may be set only together with no_new_privs"
    if has_capability(_CAP_SYS_ADMIN, proc):
        return Finding("no_new_privs", "ok", "not needed: CAP_SYS_ADMIN is there", why)
    if _status(proc).get("NoNewPrivs") == "1":
        return Finding("no_new_privs", "ok", "set already in this session: sudo and the like do not work", why)
    return Finding("no_new_privs", "ok", "will be set: sudo, ping and the like do not work inside the program", why)


def user_namespaces(attempt: Callable[[], int] | None = None) -> Finding:
    """user_namespaces(7): tried in a child."""
    why = "-t demo builds its pod in a user namespace; targets in a cluster need none"
    error = (attempt or _try_user_namespace)()
    if error == 0:
        return Finding("user namespaces", "ok", "may be created", why)
    what = f"cannot be created: {os.strerror(error)}"
    remedy = (
        "sudo sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 "
        "kernel.apparmor_restrict_unprivileged_userns=0 (those that exist), or run the demo as root"
    )
    return Finding("user namespaces", "warn", what, why, remedy)


def abort_on_overflow(proc: Path = Path("/proc")) -> Finding:
    """tcp(7), tcp_abort_on_overflow: a full listener must stay silent."""
    why = "connect(2) is kept waiting for the pod's answer by a listener that is full"
    if _read(proc / "sys/net/ipv4/tcp_abort_on_overflow").strip() != "1":
        return Finding("tcp_abort_on_overflow", "ok", "off", why)
    remedy = "sudo sysctl -w net.ipv4.tcp_abort_on_overflow=0"
    return Finding("tcp_abort_on_overflow", "missing", "on: outgoing connections would be reset", why, remedy)


def ipv6_loopback(attempt: Callable[[], int] | None = None) -> Finding:
    """ipv6(7): is there a ::1?"""
    why = "IPv6 connections of the program are led to the pod by way of ::1"
    error = (attempt or _try_ipv6_loopback)()
    if error == 0:
        return Finding("IPv6 loopback", "ok", "::1 is there", why)
    what = f"no ::1 here: {os.strerror(error)}"
    remedy = "sudo sysctl -w net.ipv6.conf.lo.disable_ipv6=0; without it only IPv4 reaches the pod"
    return Finding("IPv6 loopback", "warn", what, why, remedy)


CHECKS: tuple[Callable[[], Finding], ...] = (
    kernel,
    architecture,
    python,
    loop,
    seccomp,
    user_notification,
    yama,
    nested_tracing,
    tracing,
    no_new_privs,
    user_namespaces,
    abort_on_overflow,
    ipv6_loopback,
    mounting,
)
"""All checks of the machine, in the order of the report."""


def has_capability(number: int, proc: Path = Path("/proc")) -> bool:
    """capabilities(7): is it in our effective set?"""
    return bool(int(_status(proc).get("CapEff", "0"), 16) >> number & 1)


def _status(proc: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in _read(proc / "self/status").splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _in_child(attempt: Callable[[], int]) -> int:
    # The errno that `attempt` ends with, in a process that it may spoil.
    child = os.fork()
    if child == 0:
        result = errno.EPROTO
        try:
            result = attempt()
        finally:
            os._exit(result & 0xFF)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else errno.EPERM


def _try_user_namespace() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return _in_child(lambda: 0 if libc.unshare(_CLONE_NEWUSER) == 0 else ctypes.get_errno())


def _try_seize() -> int:
    # In a child too: a tracer's waitpid(2) semantics stay away from this process.
    return _in_child(_seize_a_child)


def _seize_a_child() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    result = 0 if libc.ptrace(_PTRACE_SEIZE, child, None, None) == 0 else ctypes.get_errno()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return result


def _try_ipv6_loopback() -> int:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        return error.errno or errno.EAFNOSUPPORT
    return 0
