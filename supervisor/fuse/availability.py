"""Whether this user can mount a FUSE file system here: fuse(4), fusermount3(1).

Root does it with mount(2) alone. Anybody else needs fusermount3, which is set-user-ID root: it works only where a program may
gain privileges at all.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

DEVICE = Path("/dev/fuse")
PROGRAMS = ("fusermount3", "fusermount")
_CAP_SYS_ADMIN = 21
_IN_CONTAINER = "docker run --device /dev/fuse --cap-add SYS_ADMIN"


@dataclass(frozen=True)
class Obstacle:
    """Why nothing can be mounted, and what to do about it."""

    what: str
    remedy: str


def fuse_obstacle() -> str:
    """Why the pod's tree cannot be mounted here, with the remedy, in one line for the user; empty if it can."""
    obstacle = find_obstacle()
    return f"{obstacle.what}: {obstacle.remedy}" if obstacle else ""


def find_obstacle(device: Path = DEVICE, proc: Path = Path("/proc"), search: str | None = None) -> Obstacle | None:
    """The first of the obstacles. `search`: folders as in PATH, if not those of PATH."""
    return _device(device) or _privilege(_status(proc), search)


def fusermount(search: str | None = None) -> str:
    """The path of the program that mounts for ordinary users; empty if there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name, path=search))), "")


def _device(device: Path) -> Obstacle | None:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Obstacle(f"there is no {device}", f"sudo modprobe fuse; in a container {_IN_CONTAINER}")
    except OSError as error:
        # EPERM is the device cgroup's: the container may not use the device, whatever its mode.
        if error.errno == errno.EPERM:
            return Obstacle(f"{device} may not be used in this container", _IN_CONTAINER)
        if error.errno == errno.EACCES:
            return Obstacle(f"{device} may not be opened by this user", f"sudo chmod 666 {device}")
        return Obstacle(f"{device} cannot be opened ({error.strerror})", f"sudo modprobe fuse; in a container {_IN_CONTAINER}")
    return None


def _privilege(status: dict[str, str], search: str | None) -> Obstacle | None:
    if _has(status, "CapEff"):
        return None
    if os.geteuid() == 0:
        return Obstacle("root has no CAP_SYS_ADMIN here, so it may not mount", f"in a container {_IN_CONTAINER}")
    program = fusermount(search)
    if not program:
        return Obstacle("there is no fusermount3", "sudo apt-get install fuse3")
    if status.get("NoNewPrivs") == "1":
        text = "no_new_privs is set, so fusermount3 has no rights of its own"
        return Obstacle(text, "start mirrord-trace outside of what has set it (docker: no-new-privileges; a sandbox)")
    if not _has(status, "CapBnd"):
        text = "CAP_SYS_ADMIN is not to be had here (capability bounding set), so fusermount3 may not mount"
        return Obstacle(text, f"in a container {_IN_CONTAINER}")
    if not _is_setuid_root(program):
        return Obstacle(f"{program} is not set-user-ID root", f"sudo chown root {program} && sudo chmod 4755 {program}")
    return _nameless()


# fusermount3 writes the user's name into the mount's options, and refuses where there is none.
def _nameless() -> Obstacle | None:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        text = f"the user id {os.getuid()} has no name, and fusermount3 insists on one"
        return Obstacle(text, "give it an entry in /etc/passwd")
    return None


def _is_setuid_root(program: str) -> bool:
    try:
        found = os.stat(program)
        mounted = os.statvfs(program)
    except OSError:
        return False
    return found.st_uid == 0 and bool(found.st_mode & stat.S_ISUID) and not mounted.f_flag & os.ST_NOSUID


def _has(status: dict[str, str], name: str) -> bool:
    return bool(int(status.get(name, "0"), 16) >> _CAP_SYS_ADMIN & 1)


def _status(proc: Path) -> dict[str, str]:
    try:
        lines = (proc / "self/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
