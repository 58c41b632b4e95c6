"""The target container's process: finding it, and entering its namespaces.

No container runtime is asked. The process is found by the container's id in /proc/*/cgroup, which is there in every
layout: `0::/kubepods…/cri-containerd-ID.scope` seen from the node, `0::/../cri-containerd-ID.scope` seen from another
container of the pod, several lines under cgroup v1. If the agent is an ephemeral container with a targetContainerName
and no line tells (some runtimes hide it), the target is process 1.

The user namespace is entered first: only there may an ordinary user enter the network namespace of a pod of their own
(`unshare -Urn`). Namespaces that are ours already are not entered, so none of this needs a right where nothing differs.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from dataclasses import dataclass
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from . import kernel
from .options import Options
from .root import Root
from .tree.identity import Credentials, read_credentials
from .volumes import volumes

_NAMESPACES = (("user", kernel.CLONE_NEWUSER), ("net", kernel.CLONE_NEWNET), ("uts", kernel.CLONE_NEWUTS))
_PAUSE_NAMES = frozenset((b"pause", b"catatonit"))


class TargetError(Exception):
    """The target cannot be found or entered: an errno, and one line for the user with the remedy."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.errno = code
        self.text = text


@dataclass(frozen=True)
class Target:
    """The target process as it was when the agent started; all of it outlives the process itself."""

    pid: int
    root: Root
    environ: Tuple[bytes, ...]
    arguments: Tuple[bytes, ...]
    working_directory: bytes
    volumes: Tuple[bytes, ...] = ()
    credentials: Optional[Credentials] = None


class _Candidate(NamedTuple):
    # Sorts so that the container's first process comes first.
    not_init: bool
    start_time: int
    pid: int


def open_target(options: Options) -> Target:
    """Find the target and open what is needed of it; TargetError if that is not possible."""
    pid = find_pid(options)
    try:
        root_fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        root = Root(root_fd)
        return Target(
            pid=pid,
            root=root,
            environ=tuple(entry for entry in _strings(_read(f"/proc/{pid}/environ")) if entry.find(b"=") > 0),
            arguments=_strings(_read(f"/proc/{pid}/cmdline")),
            working_directory=_working_directory(pid),
            volumes=volumes(pid, root),
        )
    except OSError as error:
        raise _unreadable(pid, error) from error


def find_pid(options: Options) -> int:
    """The target's process id in /proc here."""
    if options.pid:
        if not os.path.exists(f"/proc/{options.pid}"):
            raise TargetError(errno.ESRCH, f"there is no process {options.pid}")
        return options.pid
    if not options.container_id:
        return os.getpid()
    candidates = sorted(_members(options.container_id))
    if candidates:
        return candidates[0].pid
    if options.target_is_init and not _is_ours(1) and not _is_pause(1):
        return 1
    raise TargetError(
        errno.ESRCH,
        f"no process of container {options.container_id[:12]} is to be seen: it does not run, or its container runtime "
        "(gVisor, Kata) hides it, or the agent does not share its process namespace; try agent.ephemeral: false",
    )


def enter_namespaces(pid: int) -> None:
    """setns(2) into the user, network and UTS namespaces of process `pid`, those that differ. Single-threaded only."""
    differing: List[Tuple[str, int, int]] = []
    try:
        for name, kind in _NAMESPACES:
            if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
                differing.append((name, kind, os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)))
    except OSError as error:
        raise _unreadable(pid, error) from error
    for name, kind, fd in differing:
        try:
            kernel.setns(fd, kind)
        except OSError as error:
            if name == "uts":
                continue  # nothing but the hostname is in there: `env` knows another source
            raise TargetError(
                error.errno or errno.EPERM,
                f"cannot enter the {name} namespace of process {pid} ({error.strerror}): that needs CAP_SYS_ADMIN; "
                "run as root, or let the agent be privileged",
            ) from error
        finally:
            os.close(fd)


def with_credentials(found: Target) -> Target:
    """The same target with its credentials, in the numbers of the user namespace that has been entered by now.

    TargetError if the process has ended.
    """
    try:
        return dataclasses.replace(found, credentials=read_credentials(found.pid))
    except OSError as error:
        raise _unreadable(found.pid, error) from error


def _members(container_id: str) -> Iterator[_Candidate]:
    needle = container_id.encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            if needle in _read(f"/proc/{entry}/cgroup"):
                candidate = _candidate(int(entry))
                if candidate is not None:
                    yield candidate
        except OSError:
            continue  # it has ended


def _candidate(pid: int) -> Optional[_Candidate]:
    # The command name in parentheses may hold anything, parentheses included.
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X"):
        return None
    inner_pid = _status(pid).get(b"NSpid", b"").split()[-1:]
    return _Candidate(inner_pid != [b"1"], int(fields[19]), pid)


def _status(pid: int) -> Dict[bytes, bytes]:
    lines = _read(f"/proc/{pid}/status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}


def _is_ours(pid: int) -> bool:
    # Whether the process is in the agent's own container. A process that we may not look into is not.
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False


def _is_pause(pid: int) -> bool:
    try:
        program = _strings(_read(f"/proc/{pid}/cmdline"))[:1]
        return _status(pid).get(b"Name") in _PAUSE_NAMES or any(os.path.basename(p) in _PAUSE_NAMES for p in program)
    except OSError:
        return False


# /proc/PID/cwd shows the path from the root of the process's mount namespace; a chroot in there has to be taken off.
def _working_directory(pid: int) -> bytes:
    try:
        path = os.readlink(b"/proc/%d/cwd" % pid)
        root = os.readlink(b"/proc/%d/root" % pid)
    except OSError:
        return b"/"
    if root != b"/" and (path == root or path.startswith(root + b"/")):
        path = path[len(root) :] or b"/"
    return path if path.startswith(b"/") else b"/"


def _strings(block: bytes) -> Tuple[bytes, ...]:
    # Each string is ended by a NUL; a process may also have written something else there.
    return tuple((block[:-1] if block.endswith(b"\0") else block).split(b"\0")) if block else ()


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _unreadable(pid: int, error: OSError) -> TargetError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return TargetError(
            errno.EPERM,
            f"may not look into process {pid}: the agent must be the target's user, or root with CAP_SYS_PTRACE",
        )
    return TargetError(errno.ESRCH, f"process {pid} has ended ({error.strerror})")
