"""execve(2), execveat(2) of files of the pod."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from mirrord_trace.syscalls.abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.execve import execve, execveat
from mirrord_trace.syscalls.files.mounted.interpreter import array
from mirrord_trace.syscalls.requests import Foretell, Head, ReadHead
from script import PREFIX, FakeTask, Script, mounted, told

PATH, ARGV = 0x1000, 0x2000
ELF = b"\x7fELF"
ARGUMENTS = (0xA0, 0xA1, 0xA2)
REMOTE = [b"/app/run", b"/app/sh", b"/app/ld.so", b"/app/again", b"/proc/self/exe"]


def starting(path: bytes, context: Context | None = None, argv: Sequence[int] = ARGUMENTS, cwd: bytes = b"") -> Script:
    words = b"".join(word.to_bytes(8, "little") for word in (*argv, 0))
    task = FakeTask({PATH: path + b"\0", ARGV: words.ljust(4096, b"\0")})
    if cwd:
        task.enters(AT_FDCWD, cwd)
    return Script(execve, (PATH, ARGV, 0), task=task, context=context or mounted(is_used=bool(cwd), remote=REMOTE))


def at(path: bytes) -> Scratch:
    return Scratch(PREFIX + path + b"\0")


def executes(script: Script) -> Any:
    return script.task.executes


def test_a_static_program_or_one_with_a_local_loader() -> None:
    for loader in (b"", b"/lib64/ld.so"):
        context = mounted(remote=REMOTE)
        script = starting(b"/app/run", context).asks(ReadHead(b"/app/run")).replies(Head(0, ELF, loader))
        script.runs({0: at(b"/app/run")}).gets(-errno.ENOMEM).keeps(Reason.FS_MODE)
        assert told(context) == [Foretell(b"/app/run", True, True, False)]
        assert executes(script) == [b"", b""]


def test_behind_a_pod_directory_one_stop() -> None:
    script = starting(b"./run", cwd=b"/app").asks(ReadHead(b"/app/run")).replies(Head(0, ELF, b""))
    script.continues(Route.REMOTE)
    script = starting(b"./run", cwd=b"/app").asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/bin/sh\n", b""))
    script.continues(Route.REMOTE)


def test_local_programs_are_the_kernels() -> None:
    starting(b"/usr/bin/x").continues(Reason.DEFAULT_LOCAL)
    starting(b"/a", mounted(mapped={b"/a": b"/b"})).runs({0: Scratch(b"/b\0")}).gets(0).keeps(Route.LOCAL)
    starting(b"/proc/sys/kernel/hostname").continues(Reason.POD_HOSTNAME)
    script = Script(execveat, (7, PATH, ARGV, 0, AT_EMPTY_PATH), memory={PATH: b"\0"}, context=mounted(is_used=True))
    script.continues(Reason.LOCAL_OBJECT)


def test_what_cannot_be_executed() -> None:
    starting(b"/app/run").asks(ReadHead(b"/app/run")).fails(errno.EACCES).raises(errno.EACCES, Route.REMOTE)
    starting(b"/app/run").asks(ReadHead(b"/app/run")).replies(Head(errno.ENOENT, b"", b"")).raises(errno.ENOENT)


def test_a_script_with_a_local_interpreter() -> None:
    script = starting(b"/app//run").asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/bin/sh -e\n", b""))
    argv = array([b"/bin/sh", b"-e", b"/app//run", 0xA1, 0xA2])
    script.runs({0: Scratch(b"/bin/sh\0"), 1: argv}).gets(-errno.ENOENT).keeps(Route.LOCAL)


def test_a_script_with_an_interpreter_of_the_pod() -> None:
    context = mounted(remote=REMOTE)
    script = starting(b"/app/run", context).asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/app/sh\n", b""))
    script.asks(ReadHead(b"/app/sh")).replies(Head(0, ELF, b"/lib64/ld.so"))
    script.runs({0: at(b"/app/sh"), 1: array([b"/app/sh", b"/app/run", 0xA1, 0xA2])}).gets(0).keeps(Route.REMOTE)
    assert Foretell(b"/app/sh", True, True, False) in told(context)


def test_scripts_of_scripts() -> None:
    script = starting(b"/app/run").asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/app/again x\n", b""))
    script.asks(ReadHead(b"/app/again")).replies(Head(0, b"#!/bin/sh\n", b""))
    argv = array([b"/bin/sh", b"/app/again", b"x", b"/app/run", 0xA1, 0xA2])
    script.runs({0: Scratch(b"/bin/sh\0"), 1: argv}).gets(0).keeps(Route.LOCAL)
    script = starting(b"/app/again")
    for _ in range(5):
        script = script.asks(ReadHead(b"/app/again")).replies(Head(0, b"#!/app/again\n", b""))
    script.raises(errno.ELOOP)


def test_an_interpreter_that_is_hidden_or_relative() -> None:
    context = mounted(remote=REMOTE, missing=[b"/hidden"])
    script = starting(b"/app/run", context).asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/hidden\n", b""))
    script.raises(errno.ENOENT)
    script = starting(b"/app/run", cwd=b"/app").asks(ReadHead(b"/app/run")).replies(Head(0, b"#!sh\n", b""))
    script.asks(ReadHead(b"/app/sh")).replies(Head(0, ELF, b""))
    script.runs({0: at(b"/app/sh"), 1: array([b"sh", b"/app/run", 0xA1, 0xA2])}).gets(0).keeps()
    script = starting(b"/app/run").asks(ReadHead(b"/app/run")).replies(Head(0, b"#!sh\n", b""))
    script.runs({0: Scratch(b"/work/sh\0"), 1: array([b"sh", b"/app/run", 0xA1, 0xA2])}).gets(0).keeps()


def test_a_program_with_a_loader_of_the_pod() -> None:
    script = starting(b"/app/run").asks(ReadHead(b"/app/run")).replies(Head(0, ELF, b"/app/ld.so"))
    argv = array([b"/app/ld.so", b"--argv0", 0xA0, b"/app/run", 0xA1, 0xA2])
    script.runs({0: at(b"/app/ld.so"), 1: argv})
    assert executes(script) == [b"/app/run"]
    script.gets(-errno.ENOEXEC).keeps(Route.REMOTE)
    assert executes(script) == [b"/app/run", b""]


def test_a_loader_without_arguments_or_for_an_interpreter() -> None:
    script = starting(b"/app/run", argv=()).asks(ReadHead(b"/app/run")).replies(Head(0, ELF, b"/app/ld.so"))
    script.runs({0: at(b"/app/ld.so"), 1: array([b"/app/ld.so", b"--argv0", b"", b"/app/run"])}).gets(0).keeps()
    script = starting(b"/app/run").asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/app/sh -e\n", b""))
    script.asks(ReadHead(b"/app/sh")).replies(Head(0, ELF, b"/app/ld.so"))
    argv = array([b"/app/ld.so", b"--argv0", b"/app/sh", b"/app/sh", b"-e", b"/app/run", 0xA1, 0xA2])
    script.runs({0: at(b"/app/ld.so"), 1: argv}).gets(0).keeps()
    assert executes(script) == [b"/app/sh", b""]


def test_a_name_without_a_slash_is_made_absolute_for_the_loader() -> None:
    script = starting(b"run", cwd=b"/app").asks(ReadHead(b"/app/run")).replies(Head(0, ELF, b"/app/ld.so"))
    argv = array([b"/app/ld.so", b"--argv0", 0xA0, b"/app/run", 0xA1, 0xA2])
    script.runs({0: at(b"/app/ld.so"), 1: argv}).gets(0).keeps()


def test_arguments_that_cannot_be_read() -> None:
    task = FakeTask({PATH: b"/app/run\0"})
    script = Script(execve, (PATH, ARGV, 0), task=task, context=mounted(remote=REMOTE))
    script.asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/bin/sh\n", b"")).raises(errno.EFAULT)


def test_execveat() -> None:
    memory = {PATH: b"run\0", ARGV: (0xA0).to_bytes(8, "little").ljust(4096, b"\0")}
    task = FakeTask(memory)
    task.enters(7, b"/app")
    script = Script(execveat, (7, PATH, ARGV, 0, AT_SYMLINK_NOFOLLOW), task=task, context=mounted(is_used=True, remote=REMOTE))
    script.asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/app/sh\n", b""))
    script.asks(ReadHead(b"/app/sh")).replies(Head(0, ELF, b""))
    script.runs({2: array([b"/app/sh", b"/app/run"]), 4: 0, 1: at(b"/app/sh")}).gets(0).keeps()


def opened(path: bytes, fd: int = 7) -> Script:
    task = FakeTask({PATH: b"\0", ARGV: (0xA0).to_bytes(8, "little").ljust(4096, b"\0")})
    task.enters(7, path)
    return Script(execveat, (fd, PATH, ARGV, 0, AT_EMPTY_PATH), task=task, context=mounted(is_used=True, remote=REMOTE))


def test_a_file_that_is_open() -> None:
    opened(b"/app/run").asks(ReadHead(b"/app/run")).replies(Head(0, ELF, b"/lib64/ld.so")).continues(Route.REMOTE)
    opened(b"/app/run").asks(ReadHead(b"/app/run")).replies(Head(0, b"#!/bin/sh\n", b"")).continues(Route.REMOTE)
    opened(b"/app/run", 8).continues(Reason.LOCAL_OBJECT)
    opened(b"/app/run (deleted)").continues(Reason.REMOTE_OBJECT)
    script = opened(b"/app/run").asks(ReadHead(b"/app/run")).replies(Head(0, ELF, b"/app/ld.so"))
    argv = array([b"/app/ld.so", b"--argv0", 0xA0, b"/app/run"])
    script.runs({2: argv, 4: 0, 1: at(b"/app/ld.so")}).gets(0).keeps()
