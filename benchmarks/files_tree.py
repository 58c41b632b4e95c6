"""The tree of files on which the file benchmark works, and the server for bulk."""

from __future__ import annotations

import compileall
import os
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

_PACKAGES = 30


@dataclass(frozen=True)
class Scale:
    """How much of everything. `directories` with 100 files each; `modules` in 30 packages."""

    big_bytes: int = 64_000_000
    small: int = 50
    flat: int = 1000
    stats: int = 250
    directories: int = 100
    repository: int = 2000
    modules: int = 300


QUICK = Scale(8_000_000, 20, 1000, 100, 20, 300, 60)
SMALLEST = Scale(1_000_000, 3, 20, 10, 2, 20, 30)


def prepare(root: Path, scale: Scale) -> None:
    """Make the tree below `root`."""
    block = os.urandom(1_000_000)
    with open(root / "big", "wb") as file:
        for _ in range(scale.big_bytes // len(block)):
            file.write(block)
    _fill(root / "small", "file", scale.small, 1000)
    _fill(root / "thousand", "file", scale.flat, 100)
    for number in range(scale.directories):
        _fill(root / "many" / f"directory-{number:03}", "file", 100, 10)
    _repository(root / "repository", scale.repository)
    _modules(root / "modules", scale.modules)


def _fill(folder: Path, stem: str, count: int, size: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{stem}-{number:04}").write_bytes(b"x" * size)


# What a remote file system cannot keep (inode numbers, change times), git shall not look at: it would read all files.
def _repository(folder: Path, count: int) -> None:
    for number in range(count // 20):
        _fill(folder / f"part-{number % 10}" / f"folder-{number}", "source", 20, 500)
    identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com"]
    for words in (
        ["init", "-q"],
        ["config", "core.checkStat", "minimal"],
        ["config", "core.trustctime", "false"],
        ["add", "-A"],
        [*identity, "commit", "-q", "-m", "all"],
        ["status"],
    ):
        subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


def _modules(folder: Path, count: int) -> None:
    folder.mkdir()
    names = []
    for package in range(_PACKAGES):
        (folder / f"package{package:02}").mkdir()
        (folder / f"package{package:02}" / "__init__.py").write_text("")
        for number in range(max(1, count // _PACKAGES - 1)):
            (folder / f"package{package:02}" / f"module{number}.py").write_text(
                f"def function() -> int:\n    return {number}\n"
            )
            names.append(f"package{package:02}.module{number}")
    (folder / "main.py").write_text("".join(f"import {name}\n" for name in names))
    compileall.compile_dir(str(folder), quiet=1)


class BulkServer:
    """Sends and takes bytes, on a port of loopback."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()

    def close(self) -> None:
        """No more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _serve(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as file:
        words = file.readline().split()
        if not words:
            return
        size = int(words[1])
        if words[0] == b"down":
            content = memoryview(bytes(1 << 18))
            while size:
                size -= connection.send(content[: min(size, len(content))])
            return
        while size and (piece := file.read1(min(size, 1 << 18))):
            size -= len(piece)
        connection.sendall(b"!")
