from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.relay.echo import internet_checksum, with_identifier


@given(st.binary(max_size=100), st.integers(0, 0xFFFF))
def test_the_identifier_is_replaced_and_the_checksum_right(body: bytes, identifier: int) -> None:
    message = struct.pack(">BBHHH", 0, 0, 0, 1, 7) + body
    changed = with_identifier(message, identifier, ipv6=False)
    assert struct.unpack_from(">HH", changed, 4) == (identifier, 7)
    assert changed[8:] == body
    assert internet_checksum(changed) in (0, 0xFFFF)


def test_icmpv6_keeps_its_checksum() -> None:
    message = struct.pack(">BBHHH", 129, 0, 0xABCD, 1, 7) + b"x"
    assert with_identifier(message, 9, ipv6=True) == struct.pack(">BBHHH", 129, 0, 0xABCD, 9, 7) + b"x"


def test_what_is_too_short_stays() -> None:
    assert with_identifier(b"\0\0", 9, ipv6=False) == b"\0\0"
