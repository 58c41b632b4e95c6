"""Questions to the kernel's rtnetlink: in the pod's network namespace, by a real agent, and bounded."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent import routes
from mirrord_trace.agent.wire.messages import AskRoutes, Failed, RouteReplies

_HEADER = struct.Struct("=IHHII")
_GETLINK, _NEWLINK, _GETADDR, _NEWADDR, _GETROUTE = 18, 16, 22, 20, 26
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_ERROR, _DONE = 2, 3


def question(kind, flags, body=bytes(16), sequence=77):
    """A whole message."""
    return AskRoutes(_HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body)


def messages(reply):
    """(type, sequence, body) of every message of a reply."""
    assert isinstance(reply, RouteReplies), reply
    found = []
    for datagram in reply.datagrams:
        rest = datagram
        while rest:
            size, kind, _, sequence, _ = _HEADER.unpack_from(rest)
            found.append((kind, sequence, rest[_HEADER.size : size]))
            rest = rest[(size + 3) & ~3 :]
    return found


def refused(request):
    """The errno."""
    with pytest.raises(OSError) as caught:
        routes.ask_routes(request)
    return caught.value.errno


def test_a_dump_is_that_of_the_pod(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    found = messages(client.ask(question(_GETLINK, _REQUEST | _DUMP)))
    inside = pod.run(socket.if_nameindex)
    assert [kind for kind, _, _ in found] == [_NEWLINK] * len(inside) + [_DONE]
    assert {sequence for _, sequence, _ in found} == {77}


def test_a_request_that_changes_something_is_refused(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    assert client.ask(question(_NEWADDR, _REQUEST)) == Failed(errno.EPERM, "")


def test_a_single_look_up_is_acknowledged_only_if_wanted():
    body = struct.pack("=BxHiII", 0, 0, 1, 0, 0)
    found = messages(routes.ask_routes(question(_GETLINK, _REQUEST, body)))
    assert [kind for kind, _, _ in found] == [_NEWLINK]
    found = messages(routes.ask_routes(question(_GETLINK, _REQUEST | _ACK, body)))
    assert [kind for kind, _, _ in found] == [_NEWLINK, _ERROR]
    assert not any(found[-1][2][:4])


def test_what_the_kernel_refuses_is_an_answer():
    body = struct.pack("=BxHiII", 0, 0, 2**31 - 1, 0, 0)
    ((kind, sequence, content),) = messages(routes.ask_routes(question(_GETLINK, _REQUEST, body)))
    assert (kind, sequence, struct.unpack_from("=i", content)[0]) == (_ERROR, 77, -errno.ENODEV)


def test_datagrams_fit_into_the_page_that_a_program_reads_with(pod):
    def dumped():
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        for number in range(1, 101):  # many routes to nowhere
            body = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 0, 0, 254, 3, 0, 7, 0)
            body += struct.pack("=HH4s", 8, 1, bytes((10, 7, 7, number)))
            netlink.send(_HEADER.pack(_HEADER.size + len(body), 24, 0x405, number, 0) + body)
            assert struct.unpack_from("=i", netlink.recv(4096), _HEADER.size) == (0,)
        netlink.close()
        return routes.ask_routes(question(_GETROUTE, _REQUEST | _DUMP, bytes((socket.AF_INET,)) + bytes(11)))

    reply = pod.run(dumped)
    assert len(messages(reply)) > 100
    assert len(reply.datagrams) > 1
    assert max(map(len, reply.datagrams)) <= os.sysconf("SC_PAGE_SIZE")


def test_a_short_dump_comes_with_its_end():
    reply = routes.ask_routes(question(_GETLINK, _REQUEST | _DUMP))
    assert messages(reply)[-1][0] == _DONE
    if sum(map(len, reply.datagrams)) <= 4096:
        assert len(reply.datagrams) == 1


def test_an_answer_is_bounded(monkeypatch):
    monkeypatch.setattr(routes, "MAX_REPLY_BYTES", 10)
    assert refused(question(_GETLINK, _REQUEST | _DUMP)) == errno.ENOBUFS


def test_no_message_is_refused():
    whole = question(_GETADDR, _REQUEST | _DUMP).request
    for broken in (b"", whole[:15], whole[:-1], whole + b"\0"):
        assert refused(AskRoutes(broken)) == errno.EINVAL
    assert refused(AskRoutes(_HEADER.pack(16, 2, _REQUEST, 0, 0))) == errno.EPERM


@given(st.binary(max_size=60))
def test_any_bytes_end(content):
    header = _HEADER.pack(_HEADER.size + len(content), _GETADDR, _REQUEST, 1, 0)
    with contextlib.suppress(OSError):
        routes.ask_routes(AskRoutes(header + content))
