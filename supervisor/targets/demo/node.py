"""The process under the demo: makes the namespaces, keeps them alive, and hands out sockets in them.

    node (this; machine's pid namespace, user and network namespace of the cluster)
     `- container.py   process 1 of a new pid namespace; own mount, UTS, IPC and network namespace: the pod
         `- cluster.py   process 2: the services, in the node's network namespace

Started as a plain script by pod.py, in the pod's environment. However the starter ends, the kernel kills the node
(PR_SET_PDEATHSIG), by that process 1, and with process 1 its whole pid namespace.

It must stay a process of one thread: after unshare(CLONE_NEWPID) the kernel refuses to make threads.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from . import cluster, container, kernel, network

_ANSWER_BYTES = 65536


def main(parent: int, control_fd: int) -> None:
    """Build the pod, report `{"pid": N}` or `{"error": text, "errno": N}` on the socket, then serve requests."""
    kernel.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        return
    control = socket.socket(fileno=control_fd)
    try:
        pid = _build(control)
    except OSError as error:
        _answer(control, {"error": error.strerror or str(error), "errno": error.errno or 0})
        return
    _answer(control, {"pid": pid})
    _serve(control, pid)


# Returns the pid of the container process once the pod and the cluster answer.
def _build(control: socket.socket) -> int:
    _enter_namespaces()
    separate = network.make_link()
    has_ipv6 = network.set_up_cluster(separate)
    told, tell = os.pipe()
    link_arrived, link_moved = os.pipe()
    pid = os.fork()
    if pid == 0:
        control.close()
        os.close(told)
        os.close(link_moved)
        _child(tell, lambda say: _pod(separate, has_ipv6, link_arrived, say))
    os.close(tell)
    os.close(link_arrived)
    with open(told, encoding="utf-8") as lines:
        _attend(lines.readline, pid, link_moved)
    os.close(link_moved)
    return pid


# Follows the children's reports until both serve.
def _attend(next_line: Callable[[], str], pid: int, link_moved: int) -> None:
    serving = 0
    while serving < 2:
        word, _, rest = next_line().strip().partition(" ")
        if word == "network":
            network.move_link(pid)
            os.write(link_moved, b"m")
        elif word == "serving":
            serving += 1
        elif word == "error":
            number, _, text = rest.partition(" ")
            raise OSError(int(number), text)
        else:
            raise OSError(errno.ECHILD, "a process of the demo pod ended while it was starting")


# As an ordinary user and as root alike in a user namespace; root falls back to none where they are switched off.
def _enter_namespaces() -> None:
    uid, gid = os.geteuid(), os.getegid()
    rest = kernel.CLONE_NEWNET | kernel.CLONE_NEWPID
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | rest)
    except OSError:
        if uid != 0:
            raise
        kernel.unshare(rest)
    else:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    # A change of credentials may have cleared it.
    kernel.die_with_parent(signal.SIGKILL)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"{path}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)


# Runs `run(say)` in a child that never returns into the parent's code; its failure becomes an error line.
def _child(tell: int, run: Callable[[Callable[[str], None]], None]) -> None:
    try:
        run(partial(_say, tell))
    except OSError as error:
        os.write(tell, f"error {error.errno or 0} {error.strerror or error}\n".encode())
    except Exception as error:
        os.write(tell, f"error 0 {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(1)


def _say(tell: int, text: str) -> None:
    os.write(tell, f"{text}\n".encode())


def _pod(separate: bool, has_ipv6: bool, link_arrived: int, say: Callable[[str], None]) -> None:
    kernel.die_with_parent(signal.SIGKILL)
    # The node may have died before that call. Its pipe tells, since it holds the only other end.
    if select.select([link_arrived], [], [], 0)[0]:
        return
    if os.fork() == 0:
        cluster.run(has_ipv6, say)
    container.run(separate, has_ipv6, link_arrived, say)


# Until the starter closes its end, asks to stop, or the pod has died.
def _serve(control: socket.socket, pid: int) -> None:
    pod_network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    own_network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    pod_end = os.pidfd_open(pid)
    while True:
        ready = select.select([control.fileno(), pod_end], [], [])[0]
        request = control.recv(_ANSWER_BYTES) if control.fileno() in ready else b""
        if not request:
            return
        asked = json.loads(request)
        try:
            where = pod_network if asked["in_pod"] else own_network
            made = _socket_in(where, own_network, asked["family"], asked["type"])
        except OSError as error:
            _answer(control, {"error": error.strerror or str(error), "errno": error.errno or 0})
            continue
        with made:
            _answer(control, {}, made.fileno())


# A socket belongs for its life to the namespace where it was made. Going there and back affects this one thread only.
def _socket_in(namespace: int, home: int, family: int, kind: int) -> socket.socket:
    kernel.setns(namespace, kernel.CLONE_NEWNET)
    try:
        return socket.socket(family, kind)
    finally:
        kernel.setns(home, kernel.CLONE_NEWNET)


def _answer(control: socket.socket, answer: dict[str, Any], fd: int = -1) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
    # The starter may have gone; then the next receive ends us.
    with contextlib.suppress(BrokenPipeError):
        control.sendmsg([json.dumps(answer).encode()], ancillary)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
