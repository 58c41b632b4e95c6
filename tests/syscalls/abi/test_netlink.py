"""Netlink messages: layouts, walking through anything, and answers made to fit another asker."""

from __future__ import annotations

import errno
import struct

from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.syscalls.abi import netlink


def _message(kind: int, body: bytes, *, flags: int = 0, sequence: int = 1, port: int = 0) -> bytes:
    return netlink.encode_header(netlink.Header(netlink.HEADER_BYTES + len(body), kind, flags, sequence, port)) + body


def test_names() -> None:
    content = netlink.encode_name(4711, 5)
    assert content == bytes((16, 0, 0, 0)) + struct.pack("=II", 4711, 5)
    assert len(content) == netlink.SOCKADDR_BYTES
    assert netlink.decode_name(content + b"more") == (16, 4711, 5)


def test_messages_end_at_the_first_broken_one() -> None:
    first, second = _message(20, b"abc"), _message(3, b"")
    whole = first + b"\0" + second
    assert [(header.type, content) for header, content in netlink.messages(whole)] == [(20, first), (3, second)]
    for broken in (whole[:-1], first + b"\0" + bytes(16), first + b"\0" + b"\xff" * 16):
        assert [header.type for header, _ in netlink.messages(broken)] == [20]


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    assert sum(len(message) for _, message in netlink.messages(content)) <= len(content)
    netlink.attributes(content)


def test_attributes() -> None:
    content = struct.pack("=HH3sx", 7, 3, b"eth") + struct.pack("=HHI", 8, 0x8000 | 4, 1500) + b"\1\0"
    assert netlink.attributes(content) == {3: b"eth", 4: struct.pack("=I", 1500)}


def test_a_dump_asks_for_all() -> None:
    ((header, content),) = netlink.messages(netlink.dump_request(netlink.RTM_GETADDR, b"body"))
    assert (header.type, header.flags & netlink.NLM_F_DUMP, content[16:]) == (22, 0x300, b"body")


def test_a_failure_holds_the_request() -> None:
    request = _message(24, b"change", sequence=9, port=3)
    ((header, content),) = netlink.messages(netlink.failure(request, errno.EPERM))
    assert (header.type, header.sequence, header.port) == (netlink.NLMSG_ERROR, 9, 3)
    assert struct.unpack_from("=i", content, 16) == (-errno.EPERM,)
    assert content[20:] == request


def test_an_answer_for_another_asker() -> None:
    request = _message(22, b"", flags=0x301, sequence=42, port=5)
    other = _message(22, b"", flags=0x305, sequence=0)
    answer = _message(20, b"abc", port=1) + b"\0" + netlink.failure(other, errno.EBUSY)
    found = list(netlink.messages(netlink.readdressed(answer, request, 4711)))
    assert [(header.type, header.sequence, header.port) for header, _ in found] == [(20, 42, 4711), (2, 42, 4711)]
    assert found[0][1][16:] == b"abc"
    assert found[1][1][20:36] == request[:16]
