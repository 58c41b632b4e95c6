"""What is said of the pod's files and sockets that a process still has."""

from __future__ import annotations

import os
import socket
import subprocess
from types import SimpleNamespace
from typing import cast

from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.supervisor.attach.left import left
from mirrord_trace.supervisor.tracer.tree import Tree
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.mount import Mount
from mirrord_trace.syscalls.net.sockets import Sockets
from rig import ARCH


def _context(device: int | None = None) -> Context:
    mount = Mount(b"/proc/1/fd/3", device, lambda: 0) if device is not None else None
    return cast(Context, SimpleNamespace(mount=mount, sockets=Sockets()))


def _own_tree() -> Tree:
    tree = Tree(ARCH)
    tree.add(os.getpid(), os.getpid())
    return tree


def test_nothing() -> None:
    assert left(_context(), _own_tree()) == ""


def test_files_sockets_and_the_working_directory() -> None:
    """As if proc(5) were the pod's."""
    context, tree = _context(os.stat("/proc/self/ns").st_dev), Tree(ARCH)
    with open("/proc/self/maps") as first, open("/proc/self/stat") as second, socket.socket() as own:
        context.sockets.begin(os.fstat(own.fileno()).st_ino, Address(bytes(4), 80))
        with subprocess.Popen(["sleep", "1000"], stdin=first, stdout=second, cwd="/proc", pass_fds=[own.fileno()]) as process:
            tree.add(process.pid, process.pid)
            text = left(context, tree)
            process.kill()
    assert text == "; what it still has of the pod ends now: 2 open files, 1 socket, 1 working directory"
