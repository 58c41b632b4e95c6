"""What a handler may see of the thread that made the call, and of the session around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..agent.wire.messages import Message

if TYPE_CHECKING:
    from .views import View


class Credentials(NamedTuple):
    """Of a thread, as credentials(7) and capabilities(7) name them, in the supervisor's terms.

    `uid`, `gid`: by which the kernel judges access to files. `permitted`: capabilities, as bits, within the user namespace
    whose inode is `user_namespace` (0 if that cannot be told).
    """

    uid: int
    gid: int
    permitted: int
    user_namespace: int


class Task(Protocol):
    """A stopped thread of a supervised process. Every method is quick and never blocks.

    All of them raise `TraceeGone` (supervisor) if the thread has just been killed, and those that look at its memory or
    descriptors `OutOfReach` if that cannot be done; handlers let both pass.
    """

    tid: int
    tgid: int

    def read(self, address: int, size_bytes: int) -> bytes:
        """Exactly `size_bytes` of tracee memory; SyscallError(EFAULT) if any of it is not mapped."""
        ...

    def read_string(self, address: int, limit: int = 4096) -> bytes:
        """A NUL-terminated string without its NUL; EFAULT if unmapped, ENAMETOOLONG at `limit` bytes without NUL."""
        ...

    def write(self, address: int, content: bytes) -> None:
        """Put all of `content` into tracee memory now; SyscallError(EFAULT) if any of it cannot be written.

        For calls whose effect depends on it; `Return.writes` otherwise.
        """
        ...

    def file_key(self, fd: int) -> tuple[int, int] | None:
        """(st_dev, st_ino) of the open file behind `fd`, or None if the fd is not open."""
        ...

    def duplicate(self, fd: int) -> int:
        """pidfd_getfd(2): a descriptor of the supervisor for the same open file description, CLOEXEC; the caller closes it.

        SyscallError(EBADF) if the fd is not open.
        """
        ...

    def current_directory(self) -> bytes:
        """The thread's cwd as a local absolute path."""
        ...

    def device(self, fd: int) -> int | None:
        """st_dev of what is open behind `fd` (AT_FDCWD: of the working directory), or None if nothing is.

        Like `file_key` it never has a file system asked: that of the pod could keep the tracer waiting.
        """
        ...

    def may_be_directory(self, fd: int) -> bool:
        """Whether what is open behind `fd` is a directory, or cannot be told. No file system is asked for that either."""
        ...

    def path_of(self, fd: int) -> bytes:
        """readlink(2) of /proc/TID/fd/N, or of /proc/TID/cwd for AT_FDCWD; empty if it cannot be told (ENAMETOOLONG)."""
        ...

    def credentials(self) -> Credentials:
        """What the kernel judges this thread by."""
        ...

    def has_own(self, view: View) -> bool:
        """Whether this thread's root directory or namespace is another one than the supervisor's; False if it has gone."""
        ...

    def program_of(self, pid: int) -> bytes:
        """What the supervised process `pid` runs, if that is not what /proc/PID/exe says; else empty."""
        ...

    def will_execute(self, program: bytes) -> None:
        """`program_of` of this process if the execve(2) that it is about to make succeeds."""
        ...


class RelayPort(Protocol):
    """Messages to the relay that want no reply and must not wait (the tracer's side of the relay link)."""

    def tell(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Queue a notice for the relay, with descriptors (duplicated in transit; the caller keeps its own)."""
        ...

    def drain(self) -> None:
        """Take in every message the relay has already sent (never waits), so that state such as verdicts is current."""
        ...
