"""Operations of file_sequences.py on names, and on what files have besides their content."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

import file_sequence_calls as calls
from file_sequence_state import Result, State, attributes, operations, pattern, shown

# -- names --------------------------------------------------------------------------------------------------------------


def _mkdir(state: State, at: int | None, path: str, mode: int) -> Result:
    return os.mkdir(state.path(path), mode, dir_fd=state.directory(at))


def _rmdir(state: State, at: int | None, path: str) -> Result:
    return os.rmdir(state.path(path), dir_fd=state.directory(at))


def _unlink(state: State, at: int | None, path: str) -> Result:
    return os.unlink(state.path(path), dir_fd=state.directory(at))


def _rename(state: State, at: int | None, old: str, to: int | None, new: str) -> Result:
    return os.rename(state.path(old), state.path(new), src_dir_fd=state.directory(at), dst_dir_fd=state.directory(to))


def _renameat2(state: State, at: int | None, old: str, to: int | None, new: str, flags: int) -> Result:
    return calls.renameat2(state.fd(at), state.path(old), state.fd(to), state.path(new), flags)


def _link(state: State, at: int | None, old: str, to: int | None, new: str, follow: bool) -> Result:
    if "MIRRORD_TRACE_SEQUENCES_ORDINARY" in os.environ and not _may_be_linked(state, at, old, follow):
        return "left out"
    return calls.linkat(state.fd(at), state.path(old), state.fd(to), state.path(new), follow=follow)


# fs.protected_hardlinks: this machine's kernel lets nobody link what is somebody else's, as the pod's files are to an ordinary
# user, unless it is a regular file without set-user-ID. It does not ask the file system.
def _may_be_linked(state: State, at: int | None, path: str, follow: bool) -> bool:
    try:
        mode = os.stat(state.path(path), dir_fd=state.directory(at), follow_symlinks=follow).st_mode
    except OSError:
        return True
    return stat.S_ISREG(mode) and not mode & (stat.S_ISUID | stat.S_ISGID)


def _symlink(state: State, target: str, at: int | None, path: str) -> Result:
    if state.is_deep and target.startswith("@"):
        return "left out"
    return os.symlink(state.path(target), state.path(path), dir_fd=state.directory(at))


# A FIFO of the pod is a regular file to the kernel, an absolute link a relative one. Programs see what they are, but not
# where a path is so long that the tracer cannot know it.
def _mkfifo(state: State, at: int | None, path: str, mode: int) -> Result:
    if state.is_deep:
        return "left out"
    return os.mkfifo(state.path(path), mode, dir_fd=state.directory(at))


def _readlink(state: State, at: int | None, path: str) -> Result:
    return state.shown(os.readlink(state.path(path), dir_fd=state.directory(at)))


def _list(state: State, at: int | None, path: str, most: int) -> Result:
    fd = os.open(state.path(path), os.O_RDONLY | os.O_DIRECTORY, dir_fd=state.directory(at))
    directory = calls.Directory(fd)
    try:
        first = directory.read(most)
        position = directory.tell()
        rest = directory.read()
        directory.seek(position)
        is_stable = directory.read() == rest
        directory.rewind()
        is_stable &= directory.read() == first + rest
        agree = all(_agrees(fd, *entry) for entry in first + rest)
    finally:
        directory.close()
    return [sorted((name.decode("latin-1"), kind) for name, kind, _ in first + rest), is_stable, agree]


def _list_again(state: State, slot: int) -> Result:
    os.lseek(state.fd(slot), 0, os.SEEK_SET)
    return sorted(name.decode("latin-1") for name in map(os.fsencode, os.listdir(state.fd(slot))))


# ".." is left out: behind the top of a tree it is not what the listing says anywhere.
def _agrees(fd: int, name: bytes, kind: int, inode: int) -> bool:
    return name == b".." or os.stat(name, dir_fd=fd, follow_symlinks=False).st_ino == inode


def _chdir(state: State, path: str) -> Result:
    return os.chdir(state.path(path))


def _fchdir(state: State, slot: int) -> Result:
    return os.fchdir(state.fd(slot))


def _getcwd(state: State) -> Result:
    return state.shown(calls.getcwd())


# What no path leads to in one go.
def _deep(state: State, name: str, depth: int) -> Result:
    results = []
    directory = name.encode("latin-1")
    for _ in range(depth):
        try:
            os.mkdir(directory)
        except FileExistsError:
            results.append("exists")
        os.chdir(directory)
    try:
        results.append(len(state.shown(calls.getcwd())))
    except OSError as error:
        results.append(errno.errorcode[error.errno or 0])
        state.is_deep = True
    return results


# -- attributes ---------------------------------------------------------------------------------------------------------


def _stat(state: State, at: int | None, path: str, follow: bool) -> Result:
    return attributes(state, os.stat(state.path(path), dir_fd=state.directory(at), follow_symlinks=follow))


# The kernel is told that FIFOs of the pod are regular files, since it would open one of its own: fstat(2) shows it.
def _fstat(state: State, slot: int) -> Result:
    found = os.fstat(state.fd(slot))
    if stat.S_ISFIFO(found.st_mode) or (stat.S_ISREG(found.st_mode) and _is_fifo(state.fd(slot))):
        return "FIFO"
    return attributes(state, found)


def _is_fifo(fd: int) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISFIFO(os.stat(os.readlink(f"/proc/self/fd/{fd}")).st_mode)
    return False


def _statx(state: State, at: int | None, path: str, flags: int) -> Result:
    mode, nlink, uid, gid, size, has_birth = calls.statx(state.fd(at), state.path(path), flags)
    return [oct(mode), nlink, size, uid == state.owner[0], gid == state.owner[1], has_birth]


def _access(state: State, at: int | None, path: str, mode: int, flags: int) -> Result:
    return calls.faccessat2(state.fd(at), state.path(path), mode, flags)


def _chmod(state: State, path: str, mode: int) -> Result:
    return os.chmod(state.path(path), mode)


def _fchmod(state: State, slot: int, mode: int) -> Result:
    return os.fchmod(state.fd(slot), mode)


def _fchmodat(state: State, at: int | None, path: str, mode: int, flags: int) -> Result:
    return calls.fchmodat2(state.fd(at), state.path(path), mode, flags)


def _chown(state: State, at: int | None, path: str, follow: bool) -> Result:
    return os.chown(state.path(path), *state.owner, dir_fd=state.directory(at), follow_symlinks=follow)


def _fchown(state: State, slot: int) -> Result:
    return os.fchown(state.fd(slot), *state.owner)


def _utime(state: State, at: int | None, path: str, atime_ns: int, mtime_ns: int, follow: bool) -> Result:
    where = state.path(path), state.directory(at)
    os.utime(where[0], ns=(atime_ns, mtime_ns), dir_fd=where[1], follow_symlinks=follow)
    found = os.stat(where[0], dir_fd=where[1], follow_symlinks=follow)
    # To find out what a link is, the pod may have had to follow it.
    return [0 if stat.S_ISLNK(found.st_mode) else found.st_atime_ns, found.st_mtime_ns]


def _touch(state: State, slot: int) -> Result:
    return os.utime(state.fd(slot))


def _umask(state: State, mask: int) -> Result:
    return oct(os.umask(mask))


def _setxattr(state: State, path: str | int, name: str, seed: int, size: int, flags: int, follow: bool) -> Result:
    return os.setxattr(_path_or_fd(state, path), name, pattern(seed, size), flags, **_following(path, follow))


def _getxattr(state: State, path: str | int, name: str, follow: bool) -> Result:
    return shown(os.getxattr(_path_or_fd(state, path), name, **_following(path, follow)))


def _listxattr(state: State, path: str | int, follow: bool) -> Result:
    return sorted(os.listxattr(_path_or_fd(state, path), **_following(path, follow)))


def _removexattr(state: State, path: str | int, name: str, follow: bool) -> Result:
    return os.removexattr(_path_or_fd(state, path), name, **_following(path, follow))


def _path_or_fd(state: State, path: str | int) -> bytes | int:
    return state.fd(path) if isinstance(path, int) else state.path(path)


def _following(path: str | int, follow: bool) -> dict[str, bool]:
    return {} if isinstance(path, int) else {"follow_symlinks": follow}


OPERATIONS = operations(globals(), "_may_be_linked", "_agrees", "_is_fifo", "_path_or_fd", "_following")
"""Name -> operation."""
