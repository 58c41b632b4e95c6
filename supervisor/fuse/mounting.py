"""mount(2) of a FUSE file system that is attached nowhere: all that exists of it are descriptors.

As root: fsopen(2), fsconfig(2), fsmount(2), without ever a mount point. As an ordinary user fusermount3(1), which can only
mount on a directory: the root is opened there and the mount at once detached again (`fusermount3 -u -z`). Either way the
file system lives as long as something of it is open and ends with the last, SIGKILL included: no mount can be left behind.

Without default_permissions: what is allowed the pod decides, and the kernel does not judge by sticky directories itself, whose
owners are the pod's (it keeps that bit for stat(2) alone).

nosuid and nodev: what is set-user-ID or a device in the pod is neither here. As root other users may look in (allow_other),
since a program may change its user; what is allowed is decided in the pod in any case.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import os
import resource
import shutil
import socket
import subprocess
import tempfile
from typing import NamedTuple

_DEVICE = "/dev/fuse"
_NAME = "mirrord-trace"

_FSOPEN, _FSCONFIG, _FSMOUNT, _STATX = 430, 431, 432, {"x86_64": 332}.get(os.uname().machine, 291)
_CLOEXEC = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_ATTR_NOSUID, _ATTR_NODEV = 2, 4
_AT_EMPTY_PATH, _DONT_SYNC = 0x1000, 0x4000
_HELPERS = ("fusermount3", "fusermount")
_HELPER_TIMEOUT_S = 10.0
_FEWEST_FILES = 128

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class MountError(Exception):
    """The file system cannot be mounted; the text says why."""


class MountedTree(NamedTuple):
    """`device`: the descriptor that serves the kernel's requests.

    `root`: O_PATH of the root directory. The caller owns both.
    """

    device: int
    root: int


def mount() -> MountedTree:
    """Mount it. Nobody has to serve it yet. MountError if this user on this machine cannot."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < _FEWEST_FILES:
        raise MountError(f"only {files} files may be open (ulimit -Hn): a mounted tree needs {_FEWEST_FILES}")
    try:
        if os.geteuid() == 0:
            return _as_root()
        return _by_fusermount()
    except OSError as error:
        raise MountError(f"{error.filename or 'mount'}: {error.strerror}") from error


def device_number(root: int) -> int:
    """st_dev of the file system's files, without a request to who serves it (statx(2) with AT_STATX_DONT_SYNC)."""
    buffer = ctypes.create_string_buffer(256)
    _call(_STATX, root, b"", _AT_EMPTY_PATH | _DONT_SYNC, 0, buffer)
    major, minor = (int.from_bytes(buffer.raw[at : at + 4], "little") for at in (136, 140))
    return os.makedev(major, minor)


# -- as root ----------------------------------------------------------------------------------------------------------


def _as_root() -> MountedTree:
    device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    context = -1
    try:
        context = _call(_FSOPEN, b"fuse", _CLOEXEC)
        strings = {
            b"source": _NAME.encode(), b"subtype": _NAME.encode(), b"fd": b"%d" % device, b"rootmode": b"40000",
            b"user_id": b"0", b"group_id": b"0",
        }  # fmt: skip
        for key, value in strings.items():
            _call(_FSCONFIG, context, _SET_STRING, key, value, 0)
        _call(_FSCONFIG, context, _SET_FLAG, b"allow_other", None, 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        mounted = _call(_FSMOUNT, context, _CLOEXEC, _ATTR_NOSUID | _ATTR_NODEV)
    except BaseException:
        os.close(device)
        raise
    finally:
        if context >= 0:
            os.close(context)
    return MountedTree(device, mounted)


def _call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    converted = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result: int = _syscall(ctypes.c_long(number), *converted)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


# -- as an ordinary user ------------------------------------------------------------------------------------------------


def _by_fusermount() -> MountedTree:
    helper = next(filter(None, map(shutil.which, _HELPERS)), None)
    if helper is None:
        raise MountError("there is no fusermount3: install the package fuse3")
    point = tempfile.mkdtemp(prefix="mirrord-trace-")
    try:
        device = _mounted_by(helper, point)
        try:
            root = os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            os.close(device)
            raise
        finally:
            _run([helper, "-u", "-z", "-q", "--", point])
        return MountedTree(device, root)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(point)


# fusermount3 sends the device's descriptor over the socket that _FUSE_COMMFD names.
def _mounted_by(helper: str, point: str) -> int:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        options = f"rw,nosuid,nodev,fsname={_NAME},subtype={_NAME}"
        number = theirs.fileno()
        result = _run([helper, "-o", options, "--", point], {**os.environ, "_FUSE_COMMFD": str(number)}, (number,))
        theirs.close()
        ours.settimeout(_HELPER_TIMEOUT_S)
        _, control, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    for _, _, content in control:
        device = array.array("i", content[:4])[0]
        os.set_inheritable(device, False)
        return int(device)
    raise MountError(result.stderr.decode(errors="replace").strip() or f"{helper} ended with status {result.returncode}")


def _run(
    command: list[str], environment: dict[str, str] | None = None, fds: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command,
            env=environment,
            pass_fds=fds,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_HELPER_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), command[0]) from None
