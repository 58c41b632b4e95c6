from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.targets.demo import dns, network

_GREETER = "greeter.demo.svc.cluster.local"


def _query(name: str, kind: int, flags: int = 0x0100, edns: int = 0) -> bytes:
    question = dns.encode_name(name) + struct.pack(">HH", kind, 1)
    extra = b"\0" + struct.pack(">HHIH", dns.OPT, edns, 0, 0) if edns else b""
    return struct.pack(">HHHHHH", 0x1234, flags, 1, 0, 0, 1 if edns else 0) + question + extra


def _status(response: bytes) -> tuple[int, int]:
    identity, flags, _, answers, _, _ = struct.unpack_from(">HHHHHH", response)
    assert identity == 0x1234
    assert flags & 0x8000
    return flags & 0xF, answers


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (dns.A, socket.inet_aton(network.GREETER[0])),
        (dns.AAAA, socket.inet_pton(socket.AF_INET6, network.GREETER[1])),
        (dns.TXT, b"\x13greets whoever asks"),
    ],
)
def test_records_of_a_name(kind: int, content: bytes) -> None:
    response = dns.answer(_query(_GREETER, kind))
    assert _status(response) == (0, 1)
    assert response.endswith(struct.pack(">H", len(content)) + content)


def test_names_have_no_case_and_the_question_comes_back_as_it_was() -> None:
    response = dns.answer(_query(_GREETER.upper(), dns.A))
    assert _status(response) == (0, 1)
    assert dns.encode_name(_GREETER.upper()) in response


def test_an_alias_brings_what_it_stands_for() -> None:
    assert _status(dns.answer(_query("alias.demo.svc.cluster.local", dns.A))) == (0, 2)
    assert _status(dns.answer(_query("alias.demo.svc.cluster.local", dns.CNAME))) == (0, 1)


def test_service_and_reverse_records() -> None:
    service = dns.answer(_query(f"_http._tcp.{_GREETER}", dns.SRV))
    assert service.endswith(struct.pack(">HHH", 0, 100, 80) + dns.encode_name(_GREETER))
    reverse = ".".join(reversed(network.GREETER[0].split("."))) + ".in-addr.arpa"
    assert dns.answer(_query(reverse, dns.PTR)).endswith(dns.encode_name(_GREETER))


def test_mail_is_taken_by_the_greeter() -> None:
    mail = dns.answer(_query("mail.demo.svc.cluster.local", dns.MX))
    assert mail.endswith(b"\0\x0a" + dns.encode_name(_GREETER))


def test_no_such_name_is_not_no_such_record() -> None:
    assert _status(dns.answer(_query("missing.demo.svc.cluster.local", dns.A))) == (3, 0)
    assert _status(dns.answer(_query("only-ipv4.demo.svc.cluster.local", dns.AAAA))) == (0, 0)


def test_what_is_too_long_is_cut_and_says_so() -> None:
    query = _query("long.demo.svc.cluster.local", dns.A)
    short = dns.answer(query, dns.udp_limit(query))
    assert len(short) <= 512
    assert struct.unpack_from(">H", short, 2)[0] & 0x0200
    assert _status(dns.answer(query)) == (0, 100)


def test_edns_raises_the_limit() -> None:
    assert dns.udp_limit(_query(_GREETER, dns.A)) == 512
    assert dns.udp_limit(_query(_GREETER, dns.A, edns=1232)) == 1232
    assert dns.udp_limit(_query(_GREETER, dns.A, edns=100)) == 512


@pytest.mark.parametrize(
    ("query", "status"),
    [(_query(_GREETER, dns.A, flags=0x2800), 4), (struct.pack(">HHHHHH", 0x1234, 0, 2, 0, 0, 0), 1)],
)
def test_what_it_cannot_do_it_says(query: bytes, status: int) -> None:
    assert _status(dns.answer(query)) == (status, 0)


def test_responses_are_not_answered() -> None:
    assert dns.answer(_query(_GREETER, dns.A, flags=0x8000)) == b""


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer_or_silence(query: bytes) -> None:
    response = dns.answer(query, dns.udp_limit(query))
    assert response == b"" or response[:2] == query[:2]
