"""Whether this machine offers what the engine needs, seccomp_unotify(2) and pidfd_getfd(2): tried in a child process."""

from __future__ import annotations

import enum
import errno
import os
import signal

from ..forking import fork
from ..tracer import arch
from ..tracer import filter as seccomp
from ..tracer.tracee import duplicate_of
from .listener import Listener

_NO_NOTIFICATION = 0
_NOT_TO_BE_HAD, _BUSY = -1, -2


class Support(enum.Enum):
    """`KILLABLE`: all of it. `PLAIN`: a signal may interrupt a call that has begun, which is then begun again.

    `NONE`: no listener, or it cannot give descriptors away (before Linux 5.9). `FORBIDDEN`: pidfd_getfd(2) is. `TAKEN`: there
    is a listener around us already, mirrord-trace's or a container's, and there can be one only.
    """

    KILLABLE = "killable"
    PLAIN = "plain"
    NONE = "none"
    FORBIDDEN = "forbidden"
    TAKEN = "taken"


def install_with_listener(code: bytes) -> tuple[int, bool]:
    """seccomp(2): put `code` on the calling thread. Its listener, and whether its notifications are WAIT_KILLABLE_RECV.

    no_new_privs is set where it is needed. OSError as the kernel says: EBUSY if there is a listener already.
    """
    for flag in (seccomp.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0):
        flags = seccomp.SECCOMP_FILTER_FLAG_NEW_LISTENER | flag
        try:
            try:
                return seccomp.install(code, no_new_privs=False, flags=flags), bool(flag)
            except PermissionError:
                return seccomp.install(code, no_new_privs=True, flags=flags), bool(flag)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def is_outranked() -> bool:
    """Whether what runs here may have a listener, which is told of calls before any tracer is (seccomp(2))."""
    with open("/proc/self/status", "rb") as status:
        is_filtered = b"\nSeccomp:\t2\n" in status.read()
    return is_filtered and support() is Support.TAKEN


def support() -> Support:
    """What there is. Takes the time of a fork."""
    read, write = os.pipe()
    child = fork()
    if child == 0:
        _offer(write)
    os.close(write)
    try:
        listener, killable = _told(read)
        return _tried(child, listener, killable)
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# In the child: a filter that notifies of nothing. Waits to be killed, so that its descriptor is there to be looked at.
def _offer(write: int) -> None:
    try:
        killable = False
        try:
            fd, killable = install_with_listener(seccomp.program([], arch.native().audit))
        except OSError as error:
            fd = _BUSY if error.errno == errno.EBUSY else _NOT_TO_BE_HAD
        os.write(write, b"%d %d\n" % (fd, killable))
        while True:
            signal.pause()
    finally:
        os._exit(1)


def _told(read: int) -> tuple[int, bool]:
    fd, killable = map(int, os.read(read, 64).split() or (_NOT_TO_BE_HAD, 0))
    return fd, bool(killable)


def _tried(child: int, number: int, killable: bool) -> Support:
    if number < 0:
        return Support.TAKEN if number == _BUSY else Support.NONE
    try:
        listener = Listener(duplicate_of(child, number))
    except OSError:
        return Support.FORBIDDEN
    try:
        # ENOENT: the kernel knows SECCOMP_IOCTL_NOTIF_ADDFD, and there is no such notification.
        if listener.give(_NO_NOTIFICATION, 0, close_on_exec=True) != -errno.ENOENT:
            return Support.NONE
    finally:
        listener.close()
    return Support.KILLABLE if killable else Support.PLAIN
