"""Servers that nobody here wrote, running in the demo pod's network; each is up when its context begins, gone after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from runs import Runner, until

IN_NETWORK = Path(__file__).with_name("in_network.py")
_TIME_LIMIT_S = 60

Word = str | Path


def program(name: str, package: str) -> str:
    """Where a program is; some packages put theirs where PATH does not look."""
    places = [Path("/usr/sbin"), *sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(name) or next((str(place / name) for place in places if (place / name).exists()), None)
    assert found, f"{name} is not installed (apt-get install {package})"
    return found


def ended(pod: DemoPod, *command: Word, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A program that has run in the pod's network, however it ended."""
    return subprocess.run(
        in_network(pod, *command), input=stdin, capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False
    )


def run(pod: DemoPod, *command: Word, stdin: str = "") -> str:
    """What a program prints that runs in the pod's network; it has to succeed."""
    done = ended(pod, *command, stdin=stdin)
    assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


def in_network(pod: DemoPod, *command: Word) -> list[str]:
    """The command line that runs `command` in the pod's network."""
    return [str(word) for word in (sys.executable, IN_NETWORK, str(pod.pid), *command)]


@contextlib.contextmanager
def server(pod: DemoPod, port: int, *command: Word, log: Path) -> Iterator[None]:
    """`command` runs in the pod's network and takes connections to `port`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            in_network(pod, *command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: process.poll() is not None or _answers(pod, port), f"{command[0]} listens on {port}")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(_TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _answers(pod: DemoPod, port: int) -> bool:
    try:
        with pod.open_socket(socket.AF_INET, in_pod=True) as probe:
            probe.settimeout(5)
            probe.connect(("127.0.0.1", port))
    except OSError:
        return False
    return True


@contextlib.contextmanager
def stealing(runner: Runner, port: int, *command: Word, options: Sequence[Word] = ("--steal",)) -> Iterator[None]:
    """`command` runs traced, in the context of the pod, and has the pod's `port`; it may say nothing when it is ready."""
    log = runner.folder / "stealing.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in runner.command(*command, options=options)],
            cwd=runner.folder,
            env=runner.environment_for({}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: process.poll() is not None or _answers(runner.pod, port), f"{command[0]} has port {port}", 30)
        assert process.poll() is None, log.read_text()
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


@contextlib.contextmanager
def postgres(pod: DemoPod, port: int, folder: Path) -> Iterator[None]:
    """A PostgreSQL server with an empty database; everybody may be its superuser "ann"."""
    tables = folder / "tables"
    initdb = program("initdb", "postgresql")
    made = ["--pgdata", tables, "--username=ann", "--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8"]
    run(pod, initdb, *made)
    settings = ["unix_socket_directories=", "fsync=off", "listen_addresses=*", f"port={port}", "max_connections=20"]
    with (tables / "pg_hba.conf").open("a", encoding="ascii") as file:
        file.write("host all all all trust\n")
    command = [program("postgres", "postgresql"), "-D", tables, *(word for each in settings for word in ("-c", each))]
    with server(pod, port, *command, log=folder / "postgres.log"):
        yield


@contextlib.contextmanager
def redis(pod: DemoPod, port: int, folder: Path) -> Iterator[None]:
    """A Redis server that keeps nothing."""
    command = [program("redis-server", "redis-server"), *redis_arguments(port, folder)]
    with server(pod, port, *command, log=folder / "redis.log"):
        yield


def redis_arguments(port: int, folder: Path) -> list[str]:
    """Of a server that keeps nothing and serves everybody."""
    return ["--port", str(port), "--save", "", "--protected-mode", "no", "--dir", str(folder), "--bind", "*", "-::*"]
