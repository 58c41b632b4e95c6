"""ICMP echo from the pod, by a real agent in its namespaces."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

import pytest
from mirrord_trace.agent.wire.frames import pack_datagram, unpack_datagram
from mirrord_trace.agent.wire.messages import Address, Failed, OpenPing, UdpOpened


def allow(pod):
    # The switch belongs to the network namespace of the thread that opens it.
    child = os.fork()
    if child == 0:
        try:
            for name in ("user", "net"):
                fd = os.open(f"/proc/{pod.pid}/ns/{name}", os.O_RDONLY)
                if not os.path.samestat(os.fstat(fd), os.stat(f"/proc/self/ns/{name}")):
                    _setns(fd)
            with open("/proc/sys/net/ipv4/ping_group_range", "w", encoding="ascii") as switch:
                switch.write("0 0")
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if status:
        pytest.skip("net.ipv4.ping_group_range cannot be set here (/proc is read-only?)")


def _setns(fd):
    if ctypes.CDLL(None, use_errno=True).setns(fd, 0):
        raise OSError(ctypes.get_errno(), "setns")


@pytest.mark.parametrize(("version", "host", "request_type"), [(4, "127.0.0.1", 8), (6, "::1", 128)])
def test_an_echo_comes_back(pod, start_agent, version, host, request_type):
    allow(pod)
    _, client = start_agent(pid=pod.pid)
    stream = client.session.new_stream()
    opened = client.ask(OpenPing(stream, version))
    assert isinstance(opened, UdpOpened), opened
    came = []
    client.session.datagrams(stream, came.append, lambda code: None)
    peer = Address(socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, host), 0)
    client.session.send_datagram(stream, pack_datagram(peer, struct.pack(">BBHHH", request_type, 0, 0, 1, 77) + b"payload"))
    client.until(lambda: came)
    sender, message = unpack_datagram(came[0])
    assert sender == peer
    assert message[0] == (0 if version == 4 else 129)
    assert struct.unpack_from(">HH", message, 4) == (opened.local.port, 77)
    assert message[8:] == b"payload"
    client.session.reset(stream, 0)


def test_a_pod_that_does_not_allow_it(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    assert client.ask(OpenPing(client.session.new_stream(), 4)) == Failed(errno.EACCES)
    assert client.ask(OpenPing(client.session.new_stream(), 5)) == Failed(errno.EAFNOSUPPORT)
