"""Carries out sequences of file operations and prints what it saw: `file_sequences.py ROOT SEQUENCES`, one JSON line each.

A line of SEQUENCES is a list of operations, [name, arguments...] as in file_sequence_content.py and file_sequence_names.py,
or ["child", [operations]] for what a forked process does, which ends after that. Each sequence has a directory of its own,
four levels below ROOT so that `..` has somewhere to lead. What is printed are the result of each operation (a value, or the
name of an errno) and the final tree. It is the same on every machine if the file system is of the same kind; the tests compare
this machine with the pod.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import sys
import traceback
from collections.abc import Iterator
from types import FrameType

import file_sequence_content
import file_sequence_names
from file_sequence_state import Result, State, attributes

_OPERATIONS = file_sequence_content.OPERATIONS | file_sequence_names.OPERATIONS
_TIME_LIMIT_S = 20
_UMASK = 0o022
_BELOW = b"p/q/r/s"


class _TooLong(Exception):
    pass


def _too_long(number: int, frame: FrameType | None) -> None:
    raise _TooLong


def main(root: bytes, source: str) -> None:
    """Run all sequences of the file."""
    signal.signal(signal.SIGALRM, _too_long)
    with open(source, encoding="ascii") as lines:
        sequences = [json.loads(line) for line in lines]
    os.makedirs(root, exist_ok=True)
    for number, sequence in enumerate(sequences):
        directory = root + b"/%06d" % number
        print(json.dumps(_run(directory, sequence)), flush=True)


def _run(directory: bytes, sequence: list[list[Result]]) -> dict[str, Result]:
    os.umask(_UMASK)
    os.makedirs(directory + b"/" + _BELOW)
    top = directory + b"/" + _BELOW
    os.chdir(top)
    found = os.stat(top)
    state = State(os.path.dirname(directory), top, (found.st_uid, found.st_gid))
    signal.alarm(_TIME_LIMIT_S)
    try:
        results = [_carry_out(state, operation) for operation in sequence]
        for fd in state.open.values():
            os.close(fd)
        os.chdir("/")
        tree = sorted(_tree(state, os.open(directory, os.O_RDONLY | os.O_DIRECTORY), b"."))
        gone = _remove(directory)
    except _TooLong:
        return {"results": ["this takes too long"], "tree": [traceback.format_exc()]}
    finally:
        signal.alarm(0)
    return {"results": results, "tree": tree, "gone": gone}


def _carry_out(state: State, operation: list[Result]) -> Result:
    name, *arguments = operation
    try:
        if name == "child":
            return _in_child(state, *arguments)
        return _OPERATIONS[name](state, *arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except ValueError as error:
        return str(error)  # mmap's, for an empty file


# What a forked process sees; it shares the offsets of open files, and the locks of their descriptions.
def _in_child(state: State, operations: list[list[Result]]) -> Result:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            with open(writing, "w") as out:
                json.dump([_carry_out(state, operation) for operation in operations], out)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading) as answer:
        text = answer.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(text) if status == 0 else f"status {status}"


# By descriptors, since some paths are longer than a path may be. Owns `fd`.
def _tree(state: State, fd: int, shown: bytes) -> Iterator[list[Result]]:
    try:
        for name in os.listdir(fd):
            entry = os.fsencode(name)
            found = os.stat(entry, dir_fd=fd, follow_symlinks=False)
            where = shown + b"/" + entry
            yield [_short(where), *attributes(state, found), *_content(state, fd, entry, found.st_mode)]
            if stat.S_ISDIR(found.st_mode):
                yield from _tree(state, os.open(entry, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd), where)
    finally:
        os.close(fd)


def _short(path: bytes) -> str:
    return path.decode("latin-1") if len(path) < 300 else f"{len(path)} {hashlib.sha256(path).hexdigest()[:8]}"


def _content(state: State, fd: int, name: bytes, mode: int) -> list[Result]:
    if stat.S_ISLNK(mode):
        return [state.shown(os.readlink(name, dir_fd=fd))]
    if stat.S_ISFIFO(mode):
        return []
    opened = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=fd)
    try:
        xattrs = sorted((name, os.getxattr(opened, name).hex()[:80]) for name in os.listxattr(opened))
        if stat.S_ISDIR(mode):
            return [xattrs]
        digest = hashlib.sha256()
        while part := os.read(opened, 1 << 20):
            digest.update(part)
        return [digest.hexdigest()[:12], xattrs]
    finally:
        os.close(opened)


def _remove(directory: bytes) -> Result:
    try:
        shutil.rmtree(directory)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return True


if __name__ == "__main__":
    main(os.fsencode(sys.argv[1]), sys.argv[2])
