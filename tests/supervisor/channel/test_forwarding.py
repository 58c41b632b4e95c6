from __future__ import annotations

import socket
import time

from mirrord_trace.supervisor.channel.forwarding import wait_for


def test_wait_for_a_descriptor() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        began = time.monotonic()
        wait_for(ours.fileno(), False, 0.01)
        assert time.monotonic() - began >= 0.005
        wait_for(ours.fileno(), True, 60)  # it can be written to
        theirs.send(b"!")
        wait_for(ours.fileno(), False, 60)
        assert ours.recv(1) == b"!"
