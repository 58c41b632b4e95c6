from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.relay import dns_message
from mirrord_trace.supervisor.relay.dns_message import AAAA, CNAME, NXDOMAIN, SERVFAIL, A
from mirrord_trace.supervisor.targets.demo import dns
from queries import DOMAIN, GREETER, GREETER4, query, record, response


def test_a_query_and_what_makes_it_the_same_as_another() -> None:
    one = dns_message.read_query(query("Greeter.Example", id=9))
    assert one is not None
    assert (one.id, one.name, one.kind, one.limit_bytes) == (9, "greeter.example", A, 512)
    same = dns_message.read_query(query("gREETER.example", id=10))
    assert same is not None
    assert same.key == one.key
    for other in (query("greeter.example", AAAA), query("greeter.example", flags=0), query("greeter.example", edns=1232)):
        read = dns_message.read_query(other)
        assert read is not None
        assert read.key != one.key
    with_edns = dns_message.read_query(query("x", edns=1232))
    assert with_edns is not None
    assert with_edns.limit_bytes == 1232


def test_types_that_differ_as_letters_do_are_not_the_same() -> None:
    keys = {dns_message.read_query(query("x", kind)).key for kind in (65, 97)}  # type: ignore[union-attr]
    assert len(keys) == 2


def test_what_is_no_plain_query() -> None:
    good = query("a.example")
    transfer = query("a.example", 252)
    update = good[:2] + b"\x28\x00" + good[4:]
    for message in (b"", good[:11], good[:-1], transfer, update, response("a.example"), good[:4] + b"\0\2" + good[6:]):
        assert dns_message.read_query(message) is None


def test_addresses_behind_aliases() -> None:
    read = dns_message.read_response(dns.answer(query(f"alias.{DOMAIN}")))
    assert read is not None
    assert read.addresses() == ((f"alias.{DOMAIN}", GREETER), (GREETER4,), 5)
    assert read.lifetime_s() == 5


def test_addresses_of_others_and_loops() -> None:
    records = record("a", CNAME, 9, dns.encode_name("b")) + record("b", CNAME, 9, dns.encode_name("a"))
    records += record("c", A, 1, b"\1\2\3\4") + record("b", A, 3, b"\4\3\2\1")
    read = dns_message.read_response(response("a", answers=records, count=4))
    assert read is not None
    assert read.addresses() == (("a", "b"), (b"\4\3\2\1",), 3)


@pytest.mark.parametrize(
    ("message", "lifetime_s"),
    [
        (response("a", answers=record("a", A, 60, b"1234") + record("a", A, 30, b"1235"), count=2), 30),
        (response("a", answers=record("a", A, 0, b"1234"), count=1), 0),
        (response("a", answers=record("a", A, 1 << 31, b"1234"), count=1), 0),
        (response("a", status=NXDOMAIN), 0),
        (response("a", status=NXDOMAIN, soa=40), 40),
        (response("a", status=NXDOMAIN, soa=4000), 900),
        (response("a", soa=40), 40),
        (response("a", answers=record("a", CNAME, 20, dns.encode_name("b")), count=1, soa=40), 20),
        (response("a", status=SERVFAIL, soa=40), 0),
        (dns.answer(query(f"long.{DOMAIN}"), 512), 0),
    ],
)
def test_how_long_an_answer_is_good(message: bytes, lifetime_s: int) -> None:
    read = dns_message.read_response(message)
    assert read is not None
    assert read.lifetime_s() == lifetime_s


def test_a_kept_answer_for_another_query() -> None:
    kept = dns.answer(query(GREETER))
    read = dns_message.read_response(kept)
    again = query(GREETER.upper(), id=0xABCD)
    question = dns_message.read_query(again)
    assert read is not None
    assert question is not None
    aged = dns_message.answered_from(kept, read, 3, again, question.question_end)
    assert aged[:2] == b"\xab\xcd"
    assert aged[12 : question.question_end] == again[12 : question.question_end]
    old = dns_message.read_response(aged)
    assert old is not None
    assert [one.ttl_s for one in old.answers] == [2]
    assert old.addresses() == ((GREETER,), (GREETER4,), 2)
    assert dns_message.read_response(dns_message.answered_from(kept, read, 99, again, question.question_end)).lifetime_s() == 0  # type: ignore[union-attr]


def test_answers_of_our_own() -> None:
    message = query("host", id=5)
    question = dns_message.read_query(message)
    assert question is not None
    both = [b"\1\2\3\4", bytes(16), b"\1\2\3\5"]
    read = dns_message.read_response(dns_message.address_response(message, question, both))
    assert read is not None
    assert (read.id, read.status, read.addresses()[1]) == (5, 0, (b"\1\2\3\4", b"\1\2\3\5"))
    failed = dns_message.read_response(dns_message.failure(message, question, SERVFAIL))
    assert failed is not None
    assert (failed.status, failed.answers) == (SERVFAIL, ())
    short = dns_message.read_response(dns_message.cut_short(dns.answer(query(GREETER)), question.question_end))
    assert short is None or short.truncated
    assert dns_message.with_id(message, 0x1234)[:3] == b"\x12\x34\x01"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    dns_message.read_query(content)
    dns_message.read_response(content)


@given(st.data())
def test_any_bytes_in_an_answer_are_read_or_refused(data: st.DataObject) -> None:
    message = bytearray(dns.answer(query(f"alias.{DOMAIN}")))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(2, len(message) - 1))] = data.draw(st.integers(0, 255))
    read = dns_message.read_response(bytes(message[: data.draw(st.integers(0, len(message)))]))
    if read is not None:
        read.addresses()
        read.lifetime_s()


def test_very_many_records_are_not_read() -> None:
    message = response("a", answers=record("a", A, 1, b"1234") * 2000, count=2000)
    assert dns_message.read_response(message) is None


def test_addresses_as_text() -> None:
    assert dns_message.is_address("10.0.0.1") == bytes((10, 0, 0, 1))
    assert dns_message.is_address("fe80::1%eth0") == struct.pack(">H", 0xFE80) + bytes(13) + b"\1"
    assert dns_message.is_address("host") is None
