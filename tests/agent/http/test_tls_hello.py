from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.http.tls_hello import Hello, NotTls, read_hello
from mirrord_trace.agent.http.tls_leg import TlsLeg


def hello(name="pod.example", alpn=("h2", "http/1.1")):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    leg = TlsLeg(context, False, name)
    leg.start()
    return leg.output()


REAL = hello()


def test_names_and_protocols():
    assert read_hello(REAL) == Hello("pod.example", ("h2", "http/1.1"))
    assert read_hello(hello(None, ())) == Hello("", ())
    assert read_hello(REAL + b"more") == read_hello(REAL)


def test_every_beginning_is_undecided():
    assert all(read_hello(REAL[:size]) is None for size in range(len(REAL)))


def test_a_hello_in_several_records():
    body = REAL[5:]
    parts = [body[at : at + 50] for at in range(0, len(body), 50)]
    records = b"".join(b"\x16\3\1" + len(part).to_bytes(2, "big") + part for part in parts)
    assert read_hello(records) == read_hello(REAL)


@pytest.mark.parametrize(
    "start",
    [
        b"GET",
        b"\x17\3\3\0\1a",
        b"\x16\2",
        b"\x16\3\1\0\0",
        b"\x16\3\1\xff\xff",
        b"\x16\3\1\0\4\2\0\0\0",
        b"\x16\3\1\0\4\1\xff\xff\xff",
    ],
)
def test_what_is_none(start):
    with pytest.raises(NotTls):
        read_hello(start)


@given(st.integers(0, len(REAL)), st.binary(max_size=5), st.integers(0, 5))
def test_any_bytes_are_one_or_none(at, junk, keep):
    try:
        found = read_hello(REAL[:at] + junk + REAL[at + keep :])
    except NotTls:
        return
    assert found is None or isinstance(found, Hello)
