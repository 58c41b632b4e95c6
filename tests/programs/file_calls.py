"""Makes every system call about files itself: `python file_calls.py reading|writing|special TREE` prints one line for each.

TREE holds what tests/system/test_file_calls.py puts there. No C library is between: what is printed is the kernel's answer.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import stat
import struct
import sys

from file_call_numbers import NUMBERS

AT_FDCWD, AT_EMPTY_PATH, AT_NOFOLLOW = -100, 0x1000, 0x100
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_kept: list[object] = []
tree = os.fsencode(sys.argv[2])


def at(name: str) -> bytes:
    """The path of something in the tree."""
    return tree + b"/" + os.fsencode(name)


def call(name: str, *arguments: object) -> int | str:
    """The result, or the errno's name; "-": this machine has no such call."""
    number = NUMBERS[name]
    if number is None:
        return "-"
    words = []
    for argument in arguments:
        if isinstance(argument, int):
            words.append(ctypes.c_long(argument))
        else:
            content = ctypes.create_string_buffer(argument) if isinstance(argument, bytes) else argument
            _kept.append(content)
            words.append(content)
    result = _libc.syscall(ctypes.c_long(number), *words)
    return errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno())) if result == -1 else result


def say(name: str, *arguments: object, shown: object = None) -> int | str:
    """Make the call and print what came of it; `shown`: called for what is printed in place of the result."""
    result = call(name, *arguments)
    if callable(shown) and not isinstance(result, str):
        print(name, shown())
    else:
        print(name, "fd" if shown == "fd" and not isinstance(result, str) else result)
    return result


def _room(size: int) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(size)


def _vector(*rooms: ctypes.Array[ctypes.c_char]) -> bytes:
    _kept.extend(rooms)
    return b"".join(struct.pack("QQ", ctypes.addressof(room), len(room)) for room in rooms)


def reading() -> None:
    """What leaves the tree as it is."""
    for name, arguments in {
        "open": (at("file"), 0), "openat": (AT_FDCWD, at("file"), 0),
        "openat2": (AT_FDCWD, at("file"), struct.pack("QQQ", 0, 0, 0), 24),
    }.items():  # fmt: skip
        say(name, *arguments, shown="fd")
    fd, folder = os.open(at("file"), os.O_RDONLY), os.open(at("d"), os.O_RDONLY)
    _by_descriptor(fd, folder)
    _by_name(fd)
    _mapping(fd)
    _moving(fd)


def _by_descriptor(fd: int, folder: int) -> None:
    room, one, two = _room(100), _room(3), _room(4)
    say("read", fd, room, 4, shown=lambda: room.value)
    say("pread64", fd, room, 4, 2, shown=lambda: room.value)
    for name, rest in (("readv", ()), ("preadv", (1, 0)), ("preadv2", (1, 0, 0))):
        say(name, fd, _vector(one, two), 2, *rest, shown=lambda: one.raw + two.raw)
    say("lseek", fd, 0, os.SEEK_END)
    say("lseek", fd, 0, os.SEEK_HOLE)
    say("fstat", fd, room := _room(256), shown=lambda: _seen(os.fstat(fd)))
    say("fstatfs", fd, _room(256))
    say("fgetxattr", fd, b"user.none", _room(9), 9)
    say("flistxattr", fd, _room(900), 900)
    say("readahead", fd, 0, 100)
    say("fadvise64", fd, 0, 0, 3)
    say("fcntl", fd, 1, 0)
    say("dup", fd, shown="fd")
    say("dup2", fd, 50)
    say("dup3", fd, 51, os.O_CLOEXEC)
    say("flock", fd, 1 | 4)
    say("fsync", fd)
    say("poll", struct.pack("iHH", fd, 1, 0), 1, 0)
    say("ppoll", struct.pack("iHH", fd, 1, 0), 1, b"\0" * 16, None, 8)
    say("ioctl", fd, 0x541B, room := _room(4))  # FIONREAD
    say("cachestat", fd, struct.pack("QQ", 0, 0), _room(40), 0, shown=lambda: "yes")
    for name in ("getdents", "getdents64"):
        os.lseek(folder, 0, os.SEEK_SET)
        say(name, folder, room := _room(1000), 1000, shown=lambda: [name for name in (b"inner", b"..") if name in room.raw])
    say("close_range", 50, 51, 0)
    say("close", 50)


def _by_name(fd: int) -> None:
    room = _room(512)
    for name in ("stat", "lstat"):
        say(name, at("link"), room, shown=lambda: struct.unpack_from("I", room.raw, 24)[0])
    say("newfstatat", AT_FDCWD, at("link"), room, AT_NOFOLLOW, shown=lambda: _seen(os.lstat(at("link"))))
    say("statx", AT_FDCWD, at("file"), 0, 0xFFF, room, shown=lambda: struct.unpack_from("=IIQI8xH", room.raw)[3:])
    for name, first in (("access", ()), ("faccessat", (AT_FDCWD,)), ("faccessat2", (AT_FDCWD,))):
        say(name, *first, at("file"), os.R_OK, 0)
        say(name, *first, at("missing"), 0, 0)
    say("statfs", at("file"), room)
    for name, first in (("readlink", ()), ("readlinkat", (AT_FDCWD,))):
        say(name, *first, at("link"), room := _room(100), 100, shown=lambda: room.value)
    for name in ("getxattr", "lgetxattr"):
        say(name, at("file"), b"user.none", room, 100)
    for name in ("listxattr", "llistxattr"):
        say(name, at("file"), room, 100)
    say("getxattrat", AT_FDCWD, at("file"), 0, b"user.none", struct.pack("QII", ctypes.addressof(room), 100, 0), 16)
    say("listxattrat", AT_FDCWD, at("file"), 0, room, 100)
    say("chdir", at("d"))
    say("getcwd", room := _room(4096), 4096, shown=lambda: room.value.rpartition(b"/")[2])
    say("fchdir", os.open(tree, os.O_RDONLY))
    for name, arguments in (("execve", (at("program"),)), ("execveat", (AT_FDCWD, at("program")))):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            argv0 = ctypes.create_string_buffer(b"true")
            argv = struct.pack("QQ", ctypes.addressof(argv0), 0)
            call(name, *arguments, argv, None, 0)
            os._exit(9)
        print(name, os.waitpid(child, 0)[1])


def _mapping(fd: int) -> None:
    for flags in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
        address = call("mmap", 0, 4096, mmap.PROT_READ, flags, fd, 0)
        print("mmap", ctypes.string_at(address, 4) if isinstance(address, int) else address)
        if isinstance(address, int):
            say("mprotect", address, 4096, mmap.PROT_READ)
            say("madvise", address, 4096, 3)
            say("mincore", address, 4096, _room(1))
            say("msync", address, 4096, 4)
            say("mremap", address, 4096, 8192, 1, shown=lambda: "moved")


def _moving(fd: int) -> None:
    inner, outer = os.pipe()
    os.lseek(fd, 0, os.SEEK_SET)
    say("sendfile", outer, fd, struct.pack("q", 0), 5)
    say("splice", fd, None, outer, None, 5, 0)
    other, end = os.pipe()
    say("tee", inner, end, 5, 0)
    print(os.read(inner, 100), os.read(other, 100))
    target = os.memfd_create("target")
    say("copy_file_range", fd, struct.pack("q", 0), target, None, 5, 0)


def writing() -> None:
    """What changes the tree."""
    for name, arguments in {
        "open": (at("new1"), 0o102, 0o640), "creat": (at("new2"), 0o600), "openat": (AT_FDCWD, at("new3"), 0o102, 0o644),
        "openat2": (AT_FDCWD, at("new4"), struct.pack("QQQ", 0o102, 0o604, 0), 24),
    }.items():  # fmt: skip
        say(name, *arguments, shown="fd")
    os.umask(0)
    _names()
    _attributes()
    try:
        fd = os.open(at("file"), os.O_RDWR)
    except OSError as error:
        print("to write:", errno.errorcode[error.errno or 0])
        return
    _content(fd)
    print(sorted((name, _seen(os.lstat(at(name)))) for name in os.listdir(tree.decode())))


def _names() -> None:
    for name, first, last in (("mkdir", (), ()), ("mkdirat", (AT_FDCWD,), ())):
        say(name, *first, at(f"made {name}"), 0o750, *last)
    for name, first in (("mknod", ()), ("mknodat", (AT_FDCWD,))):
        say(name, *first, at(f"node {name}"), stat.S_IFIFO | 0o640, 0)
    say("symlink", b"target", at("soft1"))
    say("symlinkat", b"target", AT_FDCWD, at("soft2"))
    say("link", at("file"), at("hard1"))
    say("linkat", AT_FDCWD, at("file"), AT_FDCWD, at("hard2"), 0)
    say("rename", at("hard1"), at("hard3"))
    say("renameat", AT_FDCWD, at("hard2"), AT_FDCWD, at("hard4"))
    say("renameat2", AT_FDCWD, at("hard3"), AT_FDCWD, at("hard4"), 2)
    say("unlink", at("hard3"))
    say("unlinkat", AT_FDCWD, at("hard4"), 0)
    say("rmdir", at("made mkdir"))
    say("rmdir", at("d"))


def _attributes() -> None:
    for name, arguments in {
        "chmod": (at("other"), 0o604), "fchmodat": (AT_FDCWD, at("other"), 0o600),
        "fchmodat2": (AT_FDCWD, at("other"), 0o640, 0),
        "chown": (at("other"), -1, -1), "lchown": (at("link"), -1, -1), "fchownat": (AT_FDCWD, at("other"), -1, -1, 0),
        "utime": (at("other"), struct.pack("qq", 1, 2)), "utimes": (at("other"), struct.pack("qqqq", 1, 0, 3, 0)),
        "futimesat": (AT_FDCWD, at("other"), struct.pack("qqqq", 1, 0, 4, 0)),
        "utimensat": (AT_FDCWD, at("other"), struct.pack("qqqq", 1, 0, 5, 6), 0), "truncate": (at("other"), 50),
    }.items():  # fmt: skip
        say(name, *arguments)
    for name in ("setxattr", "lsetxattr"):
        say(name, at("other"), b"user." + name.encode(), b"value", 5, 0)
    value = _room(5)
    say("setxattrat", AT_FDCWD, at("other"), 0, b"user.at", struct.pack("QII", ctypes.addressof(value), 5, 0), 16)
    for name in ("removexattr", "lremovexattr"):
        say(name, at("other"), b"user." + name.replace("remove", "set").encode())
    say("removexattrat", AT_FDCWD, at("other"), 0, b"user.at")


def _content(fd: int) -> None:
    say("write", fd, b"WRITE", 5)
    say("pwrite64", fd, b"PWRITE", 6, 20)
    for name, rest in (("writev", ()), ("pwritev", (40, 0)), ("pwritev2", (50, 0, 0))):
        say(name, fd, _vector(_room(3), _room(4)), 2, *rest)
    say("ftruncate", fd, 5000)
    say("fallocate", fd, 0, 0, 6000)
    say("sync_file_range", fd, 0, 0, 7)
    say("fsync", fd)
    say("fdatasync", fd)
    say("syncfs", fd)
    say("fchmod", fd, 0o606)
    say("fchown", fd, -1, -1)
    say("fsetxattr", fd, b"user.f", b"value", 5, 0)
    say("fremovexattr", fd, b"user.f")
    say("flock", fd, 2)
    say("fcntl", fd, 6, struct.pack("hhqqi4x", 1, 0, 0, 0, 0))
    source, end = os.pipe()
    os.write(end, b"spliced")
    say("splice", source, None, fd, struct.pack("q", 100), 7, 0)
    say("copy_file_range", fd, struct.pack("q", 0), os.open(at("other"), os.O_RDWR), struct.pack("q", 0), 5, 0)
    address = call("mmap", 0, 4096, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    print("mmap", "mapped" if isinstance(address, int) else address)
    if isinstance(address, int):
        ctypes.memmove(address + 200, b"mapped", 6)
        say("msync", address, 4096, 4)
        say("remap_file_pages", address, 4096, 0, 0, 0)
    print(os.pread(fd, 250, 0))


def special() -> None:
    """What is about whole file systems, or cannot work."""
    fd = os.open(at("file"), os.O_RDONLY)
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    say("name_to_handle_at", AT_FDCWD, at("file"), handle, _room(8), 0)
    say("open_by_handle_at", fd, handle, 0)
    watch = say("inotify_init1", 0, shown="fd")
    say("inotify_add_watch", watch, at("file"), 2, shown=lambda: "yes")
    say("inotify_rm_watch", watch, 1)
    fan = say("fanotify_init", 0x200, 0, shown="fd")
    if isinstance(fan, int):
        say("fanotify_mark", fan, 1, 2, AT_FDCWD, at("file"))
    say("file_getattr", AT_FDCWD, at("file"), _room(24), 24, 0)
    say("file_setattr", AT_FDCWD, at("file"), _room(24), 24, 0)
    say("open_tree", AT_FDCWD, at("d"), 0, shown="fd")
    for name, arguments in {
        "chroot": (tree,), "pivot_root": (tree, tree), "mount": (tree, at("d"), None, 0x1000, None),
        "umount2": (at("d"), 0), "uselib": (at("file"),), "ustat": (os.stat(at("file")).st_dev, _room(64)),
        "move_mount": (AT_FDCWD, tree, AT_FDCWD, at("d"), 0), "fspick": (AT_FDCWD, tree, 0),
        "mount_setattr": (AT_FDCWD, tree, 0, struct.pack("QQQQ", 1, 0, 0, 0), 32),
        "open_tree_attr": (AT_FDCWD, tree, 0, _room(32), 32),
        "swapon": (at("file"), 0), "swapoff": (at("file"),), "acct": (at("file"),),
        "quotactl": (0x80000700, tree, 0, _room(64)), "quotactl_fd": (fd, 0x80000700, 0, _room(64)),
        "lookup_dcookie": (1, _room(10), 10), "io_uring_setup": (1, _room(120)), "io_uring_enter": (fd, 1, 0, 0, None, 0),
        "io_uring_register": (fd, 0, None, 0),
    }.items():  # fmt: skip
        say(name, *arguments)
    _asynchronous(fd)
    print("ruleset", _landlock(os.open(at("d"), os.O_PATH)))


def _asynchronous(fd: int) -> None:
    context = _room(8)
    say("io_setup", 1, context)
    (where,) = struct.unpack("Q", context.raw)
    room = _room(8)
    block = ctypes.create_string_buffer(struct.pack("QIIHhIQQqQII", 0, 0, 0, 0, 0, fd, ctypes.addressof(room), 4, 0, 0, 0, 0))
    say("io_submit", where, 1, struct.pack("Q", ctypes.addressof(block)))
    say("io_getevents", where, 1, 1, _room(32), None, shown=lambda: room.value)
    say("io_destroy", where)


def _landlock(folder: int) -> int | str:
    ruleset = call("landlock_create_ruleset", struct.pack("Q", 4), 8, 0)
    if isinstance(ruleset, str):
        return ruleset
    return call("landlock_add_rule", ruleset, 1, struct.pack("=Qi", 4, folder), 0)


def _seen(found: os.stat_result) -> tuple[str, int, int]:
    return stat.filemode(found.st_mode), 0 if stat.S_ISDIR(found.st_mode) else found.st_size, found.st_nlink


if __name__ == "__main__":
    signal.alarm(50)
    {"reading": reading, "writing": writing, "special": special}[sys.argv[1]]()
