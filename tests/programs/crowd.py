"""Many sockets at a time, step by step: crowd.py echo|hole IP PORT COUNT.

Each step is begun when the file of its name appears in the working directory, and said to be done by one called NAME.done.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time


def wait_for(step: str) -> None:
    """Until the test wants it."""
    while not os.path.exists(step):
        time.sleep(0.01)


def done(step: str) -> None:
    """Tell the test."""
    with open(step + ".done", "w", encoding="ascii"):
        pass


def connect_all(ip: str, port: int, count: int) -> list[socket.socket]:
    """Connects that have begun."""
    crowd = [socket.socket() for _ in range(count)]
    for one in crowd:
        one.setblocking(False)
        one.connect_ex((ip, port))
    return crowd


def echo_all(crowd: list[socket.socket]) -> None:
    """A message of its own through each, all under way at once."""
    poll = select.epoll()
    by_fd = {one.fileno(): (number, one) for number, one in enumerate(crowd)}
    for fd in by_fd:
        poll.register(fd, select.EPOLLOUT)
    while by_fd:
        for fd, events in poll.poll(20) or sys.exit("nothing more happens"):
            number, one = by_fd[fd]
            if events & select.EPOLLOUT:
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                one.send(b"message %06d" % number)
                poll.modify(fd, select.EPOLLIN)
            else:
                assert one.recv(100) == b"message %06d" % number
                poll.unregister(fd)
                del by_fd[fd]


def main() -> None:
    """The steps are `open` and `close`."""
    kind, ip, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    print("ready", flush=True)
    wait_for("open")
    crowd = connect_all(ip, port, count)
    if kind == "echo":
        echo_all(crowd)
    done("open")
    wait_for("close")
    for one in crowd:
        one.close()
    done("close")
    wait_for("end")


if __name__ == "__main__":
    main()
