"""The ways to the files: local disk, mirrord-trace, sshfs; each new for every measurement, so that it knows nothing yet."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from .delay import delayed, enlarge

Numbers = dict[str, float]

HERE = Path(__file__).parent
WORK = [sys.executable, str(HERE / "files_work.py")]
SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
_TIMEOUT_S = 180.0
_MOUNT_TIMEOUT_S = 10.0


class Way(Protocol):
    """One way."""

    name: str

    def run(self, words: list[str], round_trip_ms: float) -> Numbers:
        """What the work program finds, with FOLDER in its words being the tree; nothing if it takes too long."""
        ...


def outcome(words: list[str], timeout_s: float = _TIMEOUT_S) -> Numbers:
    """Run the work program, in some context."""
    try:
        done = subprocess.run(words, cwd=HERE.parent, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {}
    if done.returncode:
        raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr[-2000:]}")
    numbers: Numbers = json.loads(done.stdout.splitlines()[-1])
    return numbers


class Local:
    """The disk on which the tree is."""

    name = "local"

    def __init__(self, tree: Path) -> None:
        self._tree = tree

    def run(self, words: list[str], round_trip_ms: float) -> Numbers:
        """Just run it."""
        return outcome([*WORK, *[word.replace("FOLDER", str(self._tree)) for word in words]])


class Supervised:
    """A process of this machine as the pod; the tree has the same path there, and comes from there."""

    name = "mirrord-trace"

    def __init__(self, tree: Path, folder: Path, pid: int) -> None:
        self._tree = tree
        self._pid = pid
        self._stats = folder / "stats.json"
        self._config = folder / "mirrord.json"
        file_system = {"mode": "localwithoverrides", "read_write": [f"^{tree}(/|$)"], "fuse": "on"}
        network = {"incoming": "off", "dns": False}
        feature = {"fs": file_system, "env": False, "hostname": False, "network": network}
        self._config.write_text(json.dumps({"feature": feature}))
        self._nothing: dict[float, Numbers] = {}

    def run(self, words: list[str], round_trip_ms: float) -> Numbers:
        """With the counts of stops and round trips, those of a program that does nothing subtracted."""
        if round_trip_ms not in self._nothing:
            self._nothing[round_trip_ms] = self._run(["nothing", "FOLDER"], round_trip_ms)
        found = self._run(words, round_trip_ms)
        return {name: value - self._nothing[round_trip_ms].get(name, 0) for name, value in found.items()}

    def _run(self, words: list[str], round_trip_ms: float) -> Numbers:
        options = ["-t", f"pid/{self._pid}", "-f", str(self._config), "--stats-file", str(self._stats)]
        tool = [sys.executable, "-m", "benchmarks.delayed", str(round_trip_ms), *options, "--"]
        self._stats.unlink(missing_ok=True)
        found = outcome([*tool, *WORK, *[word.replace("FOLDER", str(self._tree)) for word in words]])
        if found or self._stats.exists():
            stats = json.loads(self._stats.read_text())
            found |= {name: stats[name] for name in ("stops", "round_trips")}
        return found


class Sshfs:
    """sshfs as it comes, without ssh: it talks to the server's program through the line alone."""

    name = "sshfs"

    def __init__(self, tree: Path, server: str) -> None:
        self._tree = tree
        self._server = server

    @staticmethod
    def server() -> str:
        """The server's program; empty if something that is needed is not installed."""
        found = [path for path in SFTP_SERVERS if os.access(path, os.X_OK)]
        return found[0] if found and shutil.which("sshfs") and shutil.which("fusermount3") else ""

    def run(self, words: list[str], round_trip_ms: float) -> Numbers:
        """On a mount of its own."""
        with self._mounted(round_trip_ms / 2000) as folder:
            return outcome([*WORK, *[word.replace("FOLDER", folder) for word in words]])

    @contextlib.contextmanager
    def _mounted(self, one_way_s: float) -> Iterator[str]:
        near, far = socket.socketpair()
        for sock in (near, far):
            enlarge(sock)
        with far:
            server = subprocess.Popen([self._server], stdin=far.fileno(), stdout=far.fileno(), stderr=subprocess.DEVNULL)
        line = None
        if one_way_s:
            near, line = delayed(near, one_way_s)
        with tempfile.TemporaryDirectory() as folder, near:
            words = ["sshfs", "-f", "-o", "passive", f":{self._tree}", folder]
            sshfs = subprocess.Popen(words, stdin=near.fileno(), stdout=near.fileno())
            near.close()
            try:
                _until_mounted(folder)
                yield folder
            finally:
                subprocess.run(["fusermount3", "-u", "-z", folder], check=False)
                for process in (sshfs, server, line):
                    if process is not None:
                        _end(process)


def _until_mounted(folder: str) -> None:
    deadline_s = time.monotonic() + _MOUNT_TIMEOUT_S
    while not os.path.ismount(folder):
        if time.monotonic() > deadline_s:
            raise RuntimeError("sshfs does not mount")
        time.sleep(0.01)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    process.kill()
    process.wait()
