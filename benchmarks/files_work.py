"""The work that the file benchmark measures, as a program: the same on the local disk, under mirrord-trace and on sshfs.

    python files_work.py MEASURE FOLDER [ARGUMENTS]

Prints a JSON object of numbers. Standard library only, and little of that: what it imports is supervised as well.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time

Numbers = dict[str, float]


def nothing(folder: str) -> Numbers:
    """To be subtracted from counts."""
    return {}


def read(folder: str, block: str) -> Numbers:
    """MB/s of reading a file from its beginning to its end, open and close included."""
    buffer = bytearray(int(block))
    total = 0
    began_s = time.perf_counter()
    fd = os.open(f"{folder}/big", os.O_RDONLY)
    while count := os.readv(fd, [buffer]):
        total += count
    os.close(fd)
    return {"MB/s": total / (time.perf_counter() - began_s) / 1e6}


def write(folder: str, block: str, size: str) -> Numbers:
    """MB/s of writing a new file, open and close included."""
    content = os.urandom(int(block))
    path = f"{folder}/written-{os.getpid()}"
    began_s = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for _ in range(int(size) // len(content)):
        os.write(fd, content)
    os.close(fd)
    seconds = time.perf_counter() - began_s
    os.unlink(path)
    return {"MB/s": int(size) / seconds / 1e6}


def small(folder: str) -> Numbers:
    """Opening, reading and closing small files, each at once again: per second, the first and the second time."""
    seconds = [0.0, 0.0]
    names = sorted(os.listdir(f"{folder}/small"))
    for name in names:
        for turn in (0, 1):
            began_s = time.perf_counter()
            fd = os.open(f"{folder}/small/{name}", os.O_RDONLY)
            os.read(fd, 65536)
            os.close(fd)
            seconds[turn] += time.perf_counter() - began_s
    return {"cold/s": len(names) / seconds[0], "warm/s": len(names) / seconds[1]}


def stat(folder: str, count: str) -> Numbers:
    """stat(2) of the files of one directory, whose names are known, and again: per second."""
    paths = [f"{folder}/thousand/file-{number:04}" for number in range(int(count))]
    seconds = []
    for _ in range(2):
        began_s = time.perf_counter()
        for path in paths:
            os.stat(path)
        seconds.append(time.perf_counter() - began_s)
    return {"cold/s": len(paths) / seconds[0], "warm/s": len(paths) / seconds[1]}


def program(folder: str, *words: str) -> Numbers:
    """Milliseconds that a program takes, FOLDER in its words being the folder."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
    words = tuple(word.replace("FOLDER", folder) for word in words)
    began_s = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, env=environment, check=True)
    return {"ms": (time.perf_counter() - began_s) * 1e3}


def bulk(folder: str, port: str, direction: str, streams: str, size: str) -> Numbers:
    """MB/s of TCP connections to the server of the benchmark: of so many bytes in all, evenly over `streams`."""
    each = int(size) // int(streams)
    address = ("127.0.0.1", int(port))
    connections = [socket.create_connection(address) for _ in range(int(streams))]
    threads = [threading.Thread(target=_carry, args=(connection, direction, each)) for connection in connections]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"MB/s": each * len(threads) / (time.perf_counter() - began_s) / 1e6}


def _carry(connection: socket.socket, direction: str, size: int) -> None:
    with connection:
        connection.sendall(b"%s %d\n" % (direction.encode(), size))
        if direction == "up":
            content = bytes(1 << 18)
            for _ in range(size // len(content)):
                connection.sendall(content)
            connection.sendall(content[: size % len(content)])
            connection.recv(1)  # that it has everything
            return
        buffer = bytearray(1 << 18)
        while connection.recv_into(buffer):
            continue


if __name__ == "__main__":
    measure = {each.__name__: each for each in (nothing, read, write, small, stat, program, bulk)}[sys.argv[1]]
    print(json.dumps(measure(*sys.argv[2:])))
