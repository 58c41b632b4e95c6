"""Calls on paths, made on a thread's behalf: user notification lets nobody change the arguments of a call.

A handler has put the path into the mounted pod tree in place of the thread's. The call is made by a worker, with that
path, the thread's working directory, umask and file system user, and its own descriptors where it names any. What the
kernel writes is copied to where the thread wants it; an open file becomes the thread's by SECCOMP_IOCTL_NOTIF_ADDFD.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections.abc import Callable, Iterator

from ...syscalls.abi.flags import AT_FDCWD, O_CREAT, O_PATH, to_int32
from ...syscalls.actions import SyscallError
from ..errors import TraceeGone
from .calls import Frame
from .workers import call, set_directory

_LARGEST = 1 << 20

KINDS: dict[str, str] = {
    "open": "PII", "creat": "PI", "openat": "DPII", "openat2": "DPb3I", "open_tree": "DPI",
    "chmod": "PI", "fchmodat": "DPI", "fchmodat2": "DPII", "chown": "PII", "lchown": "PII", "fchownat": "DPIII",
    "truncate": "PI", "mkdir": "PI", "mkdirat": "DPI", "mknod": "PII", "mknodat": "DPII", "rmdir": "P", "unlink": "P",
    "unlinkat": "DPI", "rename": "PP", "renameat": "DPDP", "renameat2": "DPDPI", "link": "PP", "linkat": "DPDPI",
    "symlink": "TP", "symlinkat": "TDP", "utime": "Ps2", "utimes": "Ps4", "futimesat": "DPs4", "utimensat": "DPs4I",
    "statfs": "PS15", "setxattr": "PTb3II", "lsetxattr": "PTb3II", "getxattr": "PTB3I", "lgetxattr": "PTB3I",
    "listxattr": "PB2I", "llistxattr": "PB2I", "removexattr": "PT", "lremovexattr": "PT", "listxattrat": "DPIB4I",
    "removexattrat": "DPIT", "inotify_add_watch": "FPI", "name_to_handle_at": "DPHS1I", "file_getattr": "DPB3II",
    "file_setattr": "DPb3II", "stat": "PS18", "lstat": "PS18", "newfstatat": "DPS18I", "statx": "DPIIS32",
    "access": "PI", "faccessat": "DPI", "faccessat2": "DPII", "readlink": "PB2I", "readlinkat": "DPB3I",
}  # fmt: skip
"""Syscall name -> the kinds of its arguments, one letter each.

P path, D the directory of the path that follows, T another string, F descriptor, I number; S and s a structure of so many
words of 8 bytes that the kernel writes, or reads unless the pointer is NULL; B and b a buffer that it writes or reads, whose
size is in argument N; H a file handle.
"""

_OPENING = {"open": 1, "openat": 2, "creat": -1, "openat2": 2, "open_tree": 2}
_MAKING = frozenset({"open", "openat", "creat", "openat2", "mkdir", "mkdirat", "mknod", "mknodat"})
_HANDLE_BYTES = 8
_MOST_HANDLE_BYTES = 128

# What means the thread by itself would mean the worker.
_SELF = re.compile(rb"\A/+proc/+(?:self|thread-self)(/|\Z)")
_DESCRIPTORS = re.compile(rb"\A/+dev/+fd/+")

Value = int | bytes | ctypes.Array[ctypes.c_char] | None


class PathCall:
    """One such call. What it needs of the thread is collected at once, in the loop; `make` is the worker's part."""

    def __init__(self, frame: Frame, name: str, number: int) -> None:
        self._frame = frame
        self._name = name
        self._number = number
        self._owned: list[int] = []
        self._outputs: list[tuple[int, ctypes.Array[ctypes.c_char], bool]] = []
        self._is_relative = False
        try:
            self._values = self._collect(KINDS[name])
            self._umask, self._user = _circumstances(frame.task.tid)
        except BaseException:
            self._close()
            raise

    # -- the loop's part ----------------------------------------------------------------------------------------------

    def _collect(self, kinds: str) -> list[Value]:
        values: list[Value] = []
        position = at = 0
        while at < len(kinds):
            kind = kinds[at]
            end = at + 1
            while end < len(kinds) and kinds[end].isdigit():
                end += 1
            values.append(self._value(kind, int(kinds[at + 1 : end] or b"0"), position))
            at, position = end, position + 1
        return values

    def _value(self, kind: str, number: int, position: int) -> Value:
        frame = self._frame
        if kind == "I":
            return _signed(frame.args[position])
        if kind in "PT":
            return self._string(kind, position)
        if kind == "D":
            return self._directory(position)
        if kind == "F":
            return self._own(to_int32(frame.args[position]))
        if frame.is_null(position):
            return None
        return self._memory(kind, number, position)

    def _string(self, kind: str, position: int) -> Value:
        text = self._frame.string(position)
        if kind == "P":
            text = _SELF.sub(b"/proc/%d\\1" % self._frame.task.tid, _DESCRIPTORS.sub(b"/proc/self/fd/", text))
        self._is_relative = self._is_relative or (kind == "P" and not text.startswith(b"/"))
        return text

    def _directory(self, position: int) -> int:
        fd = to_int32(self._frame.args[position])
        if fd == AT_FDCWD or self._frame.string(position + 1).startswith(b"/"):
            return AT_FDCWD
        return self._own(fd)

    def _own(self, fd: int) -> int:
        try:
            copy = self._frame.task.duplicate(fd)
        except SyscallError as error:
            if error.errno != errno.EBADF:
                raise
            return -1  # nor is this one open: the kernel says so when it comes to it
        self._owned.append(copy)
        return copy

    def _memory(self, kind: str, number: int, position: int) -> Value:
        frame = self._frame
        if kind == "H":
            room = int.from_bytes(frame.content(position, 4), "little")
            size = _HANDLE_BYTES + min(room, _MOST_HANDLE_BYTES)
            return self._output(position, size, frame.content(position, size), True)
        # The limit is beyond what any of these calls takes.
        size = number * 8 if kind in "Ss" else min(frame.args[number], _LARGEST)
        if kind in "sb":
            return ctypes.create_string_buffer(frame.content(position, size), max(size, 1))
        return self._output(position, size, b"", kind == "S")

    def _output(self, position: int, size: int, content: bytes, whole: bool) -> Value:
        buffer = ctypes.create_string_buffer(content, max(size, 1))
        self._outputs.append((self._frame.args[position], buffer, whole))
        return buffer

    # -- the worker's part --------------------------------------------------------------------------------------------

    def make(self) -> int:
        """The result, or -errno, once everything is where the thread expects it. Never raises."""
        try:
            return self._make()
        except TraceeGone:
            return -errno.ESRCH
        except (SyscallError, OSError) as error:
            return -(error.errno or errno.EIO)
        finally:
            self._close()

    def _make(self) -> int:
        if self._is_relative:
            set_directory(self._frame.task.tid)
        if self._name in _MAKING:
            os.umask(self._umask)
        flags = self._flags()
        with _as_user(self._user):
            result = call(self._number, *self._values)
        if self._name in _OPENING and result >= 0:
            return self._frame.give(result, close_on_exec=bool(flags & os.O_CLOEXEC))
        self._write(result)
        return result

    # Of an open. See `is_path_only`: here a readable descriptor takes its place.
    def _flags(self) -> int:
        at = _OPENING.get(self._name, -1)
        if at < 0:
            return 0
        value = self._values[at]
        if not isinstance(value, int):
            return int.from_bytes(bytes(value or b"")[:8], "little")
        if self._name != "open_tree" and value & O_PATH:
            self._values[at] = value & ~(O_PATH | O_CREAT)
        return value

    def _write(self, result: int) -> None:
        for address, buffer, whole in self._outputs:
            content = buffer.raw if whole else buffer.raw[: max(result, 0)]
            if content and address and (result >= 0 or self._name == "name_to_handle_at"):
                self._frame.task.write(address, content)

    def _close(self) -> None:
        while self._owned:
            os.close(self._owned.pop())


def is_path_only(frame: Frame, name: str) -> bool:
    """Whether the call gives a descriptor of O_PATH, which cannot be given away by SECCOMP_IOCTL_NOTIF_ADDFD."""
    if name == "openat2":
        return bool(int.from_bytes(frame.content(2, 8), "little") & O_PATH) if not frame.is_null(2) else False
    if name in ("open", "openat"):
        return bool(frame.args[_OPENING[name]] & O_PATH)
    return name == "open_tree"


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


_User = tuple[int, int, tuple[int, ...]]


def _circumstances(tid: int) -> tuple[int, _User]:
    # The thread's umask, and as whom it uses the file system.
    try:
        with open(f"/proc/{tid}/status", "rb") as status:
            fields = {name: value.split() for name, _, value in (line.partition(b":") for line in status)}
    except OSError:
        raise TraceeGone(tid) from None
    groups = tuple(int(group) for group in fields[b"Groups"])
    return int(fields.get(b"Umask", [b"22"])[0], 8), (int(fields[b"Uid"][3]), int(fields[b"Gid"][3]), groups)


_SYS_SETFSUID, _SYS_SETFSGID, _SYS_SETGROUPS = {"x86_64": (122, 123, 116)}.get(os.uname().machine, (151, 152, 159))


@contextlib.contextmanager
def _as_user(user: _User) -> Iterator[None]:
    own = os.geteuid(), os.getegid(), tuple(os.getgroups())
    if own == user or own[0]:
        yield
        return
    # These concern the calling thread alone, unlike the C library's functions.
    _become(user)
    try:
        yield
    finally:
        _become(own)


def _become(user: _User) -> None:
    groups = b"".join(group.to_bytes(4, "little") for group in user[2])
    steps: tuple[Callable[[], int], ...] = (
        lambda: call(_SYS_SETGROUPS, len(user[2]), groups or None),
        lambda: call(_SYS_SETFSGID, user[1]),
        lambda: call(_SYS_SETFSUID, user[0]),
    )
    for step in steps if user[0] else reversed(steps):
        step()
