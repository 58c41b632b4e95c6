"""Streams of one HTTP/2 connection, between real h2 peers."""

from __future__ import annotations

import errno
import itertools
import struct

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import NeverIndexedHeaderTuple
from hyperframe.frame import GoAwayFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.http.actions import CLIENT, PEER, POD
from wires import ME, Wires

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BODY = {"filter": {"body": {"query": "$.user", "matches": "^me$"}}}


class Host:
    """An h2 connection at one end of the wires. `seen`: its events by stream."""

    def __init__(self, is_client, **settings_):
        config = H2Configuration(
            client_side=is_client, header_encoding=None, validate_inbound_headers=False, normalize_inbound_headers=False
        )
        self.h2 = H2Connection(config)
        if settings_:
            self.h2.update_settings(settings_)
        self.h2.initiate_connection()
        self.seen = []
        self.taken = 0
        self.acknowledges = True

    def receive(self, data):
        for event in self.h2.receive_data(data):
            self.seen.append(event)
            if isinstance(event, events.DataReceived) and self.acknowledges and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def of(self, kind, stream=None):
        return [
            event for event in self.seen if isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None))
        ]

    def body(self, stream):
        return b"".join(event.data for event in self.of(events.DataReceived, stream))


class Net(Wires):
    """Wires with an h2 host at each connection that is opened; `settle` lets all talk until nobody has anything to say."""

    def __init__(self, rules=ME, mirror=False, **settings_):
        super().__init__(rules, mirror)
        self.client = Host(is_client=True)
        self.hosts = {}
        self.settings_ = settings_

    def settle(self):
        before = None
        while before != (before := (dict(self.sent), len(self.closed))) or self.moving():
            pass
        return self

    def moving(self):
        moved = False
        data = self.client.h2.data_to_send()
        if data and PEER not in self.closed:
            self.peer(data)
            moved = True
        answer = self.sent.pop(PEER, b"")
        if answer:
            self.client.receive(answer)
            moved = True
        for number in list(self.opened):
            if number == PEER:
                continue
            data = self.sent.pop(number, b"")
            if data:
                if number not in self.hosts:
                    self.hosts[number] = Host(is_client=False)
                self.hosts[number].receive(data)
                moved = True
            if number in self.hosts and number not in self.closed:
                said = self.hosts[number].h2.data_to_send()
                if said:
                    self.says(number, said)
                    moved = True
        return moved

    def host(self, end):
        return self.hosts[self.last(end)]

    def request(self, *headers, body=None, end=True, method=b"POST"):
        stream = self.client.h2.get_next_available_stream_id()
        head = [(b":method", method), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"pod"), *headers]
        self.client.h2.send_headers(stream, head, end_stream=end and body is None)
        if body is not None:
            self.client.h2.send_data(stream, body, end_stream=end)
        self.settle()
        return stream


MINE = (b"x-user", b"me")


def respond(host, stream, body=b"", *headers, trailers=None):
    host.h2.send_headers(stream, [(b":status", b"200"), *headers], end_stream=not body and not trailers)
    if body:
        host.h2.send_data(stream, body, end_stream=not trailers)
    if trailers:
        host.h2.send_headers(stream, trailers, end_stream=True)


def test_streams_go_where_they_belong():
    net = Net()
    one, two, three = net.request(), net.request(MINE), net.request(MINE)
    assert [len(host.of(events.RequestReceived)) for host in (net.host(POD), net.host(CLIENT))] == [1, 2]
    respond(net.host(CLIENT), 3, b"third")
    respond(net.host(CLIENT), 1, b"second")
    respond(net.host(POD), 1, b"first")
    net.settle()
    assert [net.client.body(stream) for stream in (one, two, three)] == [b"first", b"second", b"third"]
    assert len(net.client.of(events.StreamEnded)) == 3
    assert not net.closed


def test_headers_keep_order_case_and_secrets():
    headers = [(b"Z-Odd", b" v "), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"a", b"\xff\x00"[:1])]
    net = Net()
    net.client.h2.config.normalize_outbound_headers = net.client.h2.config.validate_outbound_headers = False
    secret = NeverIndexedHeaderTuple(b"authorization", b"secret")
    net.request(*headers, secret)
    seen = net.host(POD).of(events.RequestReceived)[0].headers
    assert [tuple(header) for header in seen[4:]] == [*headers, tuple(secret)]
    assert [type(header).indexable for header in seen[4:]] == [True] * 4 + [False]
    assert [name for name, _ in seen[:4]] == [b":method", b":scheme", b":path", b":authority"]


def test_grpc_with_trailers_both_ways_without_delay():
    net = Net()
    stream = net.request(MINE, (b"content-type", b"application/grpc"), (b"te", b"trailers"), end=False)
    host = net.host(CLIENT)
    for number in range(3):
        net.client.h2.send_data(stream, b"ping%d" % number)
        net.settle()
        assert host.body(1).endswith(b"ping%d" % number)
        if not number:
            host.h2.send_headers(1, [(b":status", b"200")])
        host.h2.send_data(1, b"pong%d" % number)
        net.settle()
        assert net.client.body(stream).endswith(b"pong%d" % number)
    net.client.h2.end_stream(stream)
    net.settle()
    host.h2.send_headers(1, [(b"grpc-status", b"0")], end_stream=True)
    net.settle()
    assert [tuple(h) for h in net.client.of(events.TrailersReceived)[0].headers] == [(b"grpc-status", b"0")]
    assert len(host.of(events.StreamEnded)) == 1


def test_trailers_of_a_request_and_interim_answers():
    net = Net()
    stream = net.request(MINE, end=False)
    net.client.h2.send_headers(stream, [(b"x-sum", b"1")], end_stream=True)
    net.settle()
    host = net.host(CLIENT)
    assert [tuple(h) for h in host.of(events.TrailersReceived)[0].headers] == [(b"x-sum", b"1")]
    host.h2.send_headers(1, [(b":status", b"103"), (b"link", b"x")])
    respond(host, 1)
    net.settle()
    assert len(net.client.of(events.InformationalResponseReceived)) == 1
    assert len(net.client.of(events.ResponseReceived)) == 1


def test_windows_are_passed_through():
    net = Net()
    stream = net.request(MINE, end=False)
    host = net.host(CLIENT)
    host.acknowledges = False
    sent = 0
    for _ in range(1000):
        room = min(net.client.h2.local_flow_control_window(stream), 16384)
        if not room:
            break
        net.client.h2.send_data(stream, b"x" * room)
        sent += room
        net.settle()
    assert 65535 == len(host.body(1)) < sent < 2 << 20
    # Another stream is not slowed down by this one.
    other = net.request(body=b"quick")
    assert net.host(POD).body(1) == b"quick"
    respond(net.host(POD), 1, b"answer")
    net.settle()
    assert net.client.body(other) == b"answer"
    host.acknowledges = True
    host.h2.acknowledge_received_data(65535, 1)
    net.client.h2.end_stream(stream)
    net.settle()
    assert len(host.body(1)) == sent
    assert len(host.of(events.StreamEnded, 1)) == 1


def test_a_long_answer_to_a_slow_peer():
    net = Net()
    net.client.acknowledges = False
    stream = net.request(MINE)
    host = net.host(CLIENT)
    host.h2.send_headers(1, [(b":status", b"200")])
    content = bytes(range(256)) * 1024
    for at in range(0, len(content), 16384):
        host.h2.send_data(1, content[at : at + 16384], end_stream=at + 16384 >= len(content))
        net.settle()
    assert len(net.client.body(stream)) == 65535
    net.client.acknowledges = True
    net.client.h2.acknowledge_received_data(65535, stream)
    net.settle()
    assert net.client.body(stream) == content
    assert len(net.client.of(events.StreamEnded, stream)) == 1


def test_resets_go_both_ways():
    net = Net()
    one, two = net.request(MINE, end=False), net.request(MINE)
    net.client.h2.reset_stream(one, ErrorCodes.CANCEL)
    net.host(CLIENT).h2.reset_stream(3, ErrorCodes.ENHANCE_YOUR_CALM)
    net.settle()
    assert [event.error_code for event in net.host(CLIENT).of(events.StreamReset, 1)] == [ErrorCodes.CANCEL]
    assert [event.error_code for event in net.client.of(events.StreamReset, two)] == [ErrorCodes.ENHANCE_YOUR_CALM]


def test_an_answer_before_the_end_of_the_request():
    net = Net()
    stream = net.request(MINE, body=b"x" * 100, end=False)
    host = net.host(CLIENT)
    respond(host, 1, b"enough")
    host.h2.reset_stream(1, ErrorCodes.NO_ERROR)
    net.settle()
    assert net.client.body(stream) == b"enough"
    assert len(net.client.of(events.StreamEnded, stream)) == 1
    assert [event.error_code for event in net.client.of(events.StreamReset, stream)] == [ErrorCodes.NO_ERROR]


@pytest.mark.parametrize("break_", ["ends", "fails"])
def test_a_client_that_does_not_answer_is_a_bad_gateway(break_):
    net = Net({**ME, "marker": True})
    stream = net.request(MINE, body=b"x" * 10, end=False)
    getattr(net, break_)(net.last(CLIENT))
    net.client.h2.send_data(stream, b"more", end_stream=True)
    net.settle()
    head = dict(net.client.of(events.ResponseReceived, stream)[0].headers)
    assert head[b":status"] == b"502"
    assert head[b"mirrord-agent"] == b"forwarded-to-client"
    assert b"gave no answer" in net.client.body(stream)
    other = net.request(MINE)
    respond(net.host(CLIENT), 1, b"back")
    net.settle()
    assert net.client.body(other) == b"back"


def test_a_client_that_speaks_http_1_is_a_bad_gateway():
    net = Net()
    stream = net.client.h2.get_next_available_stream_id()
    head = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"pod"), MINE]
    net.client.h2.send_headers(stream, head, end_stream=True)
    net.peer(net.client.h2.data_to_send())
    number = net.last(CLIENT)
    net.sent.pop(number)
    net.says(number, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    net.settle()
    assert dict(net.client.of(events.ResponseReceived, stream)[0].headers)[b":status"] == b"502"
    assert number in net.closed


def test_a_pod_that_breaks_off_resets_its_streams():
    net = Net()
    stream = net.request()
    net.fails(1, errno.ECONNREFUSED).settle()
    assert [event.error_code for event in net.client.of(events.StreamReset, stream)] == [ErrorCodes.INTERNAL_ERROR]
    assert PEER not in net.closed


def test_an_end_that_shuts_down_finishes_what_it_has():
    net = Net()
    one, two = net.request(MINE), net.request(MINE)
    first = net.last(CLIENT)
    net.says(first, GoAwayFrame(0, last_stream_id=1, error_code=0).serialize())
    net.settle()
    assert [event.error_code for event in net.client.of(events.StreamReset, two)] == [ErrorCodes.REFUSED_STREAM]
    three = net.request(MINE)
    assert net.last(CLIENT) != first
    respond(net.hosts[first], 1, b"old")
    respond(net.host(CLIENT), 1, b"new")
    net.settle()
    assert (net.client.body(one), net.client.body(three)) == (b"old", b"new")
    assert net.closed[first] == 0


def test_more_streams_than_an_end_takes_wait():
    net = Net()
    net.request(MINE)
    host = net.host(CLIENT)
    host.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    net.settle()
    streams = [net.request(MINE) for _ in range(4)]
    assert len(host.of(events.RequestReceived)) == 2
    for stream in (1, 3, 5, 7, 9):
        respond(host, stream, b"%d" % stream)
        net.settle()
    assert [net.client.body(stream) for stream in streams] == [b"3", b"5", b"7", b"9"]


def test_extended_connect_is_offered_once_an_end_does():
    net = Net()
    net.request()
    net.host(POD).h2.update_settings({SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    net.settle()
    assert net.client.h2.remote_settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
    stream = net.request((b":protocol", b"websocket"), method=b"CONNECT", end=False)
    net.host(POD).h2.send_headers(3, [(b":status", b"200")])
    net.host(POD).h2.send_data(3, b"frame")
    net.client.h2.send_data(stream, b"emarf")
    net.settle()
    assert (net.client.body(stream), net.host(POD).body(3)) == (b"frame", b"emarf")


def test_ping_is_between_us_and_the_peer():
    net = Net()
    net.client.h2.ping(b"12345678")
    net.settle()
    assert len(net.client.of(events.PingAckReceived)) == 1


def test_markers():
    net = Net({**ME, "marker": True})
    stream = net.request()
    respond(net.host(POD), 1, b"x")
    net.settle()
    assert dict(net.client.of(events.ResponseReceived, stream)[0].headers)[b"mirrord-agent"] == b"passed-through"


def test_a_filter_of_bodies():
    net = Net(BODY)
    net.request(body=b'{"user":', end=False)
    assert net.router.wants_s == 1
    assert net.count(CLIENT) == 0
    net.client.h2.send_data(1, b'"me"}', end_stream=True)
    net.settle()
    assert net.host(CLIENT).body(1) == b'{"user":"me"}'
    assert net.router.wants_s == 0
    net.request(body=b'{"user":"you"}')
    assert net.host(POD).body(1) == b'{"user":"you"}'
    net.request(body=b'{"user":"me"', end=False)
    net.waits().settle()
    assert net.host(POD).body(3) == b'{"user":"me"'


def test_a_long_body_is_not_waited_for():
    net = Net(BODY)
    stream = net.request(end=False)
    net.settle()
    for _ in range(5):
        net.client.h2.send_data(stream, b"x" * 16384)
        net.settle()
    assert len(net.host(POD).body(1)) == 5 * 16384


def test_a_peer_that_goes_away():
    net = Net()
    net.request(MINE, end=False)
    net.fails(PEER)
    assert net.closed == {1: 0, 2: errno.ECONNRESET, PEER: errno.ECONNRESET}
    net = Net()
    net.request()
    net.ends(PEER)
    assert net.closed == {1: 0, PEER: 0}


def test_a_peer_that_breaks_the_rules_is_told_and_closed():
    net = Net()
    net.request()
    net.peer(b"\xff" * 9)
    assert net.closed[PEER] == 0
    net.client.receive(net.answer)
    assert net.client.of(events.ConnectionTerminated)


def test_a_peer_without_ends_is_closed_after_a_while():
    net = Net()
    net.request()
    respond(net.host(POD), 1)
    net.settle()
    net.ends(1)
    net.waits()
    assert net.closed[PEER] == 0


def test_mirror_sends_copies_and_drops_their_answers():
    net = Net(mirror=True)
    stream = net.request(MINE, body=b"hello", end=False)
    net.client.h2.send_headers(stream, [(b"t", b"1")], end_stream=True)
    net.settle()
    assert net.host(POD).body(1) == net.host(CLIENT).body(1) == b"hello"
    assert len(net.host(CLIENT).of(events.TrailersReceived)) == 1
    assert net.copies == {net.last(CLIENT)}
    respond(net.host(CLIENT), 1, b"copy" * 4000)
    respond(net.host(POD), 1, b"pod")
    net.settle()
    assert net.client.body(stream) == b"pod"
    net.request()
    assert len(net.host(CLIENT).of(events.RequestReceived)) == 1
    net.ends(PEER)
    assert set(net.closed) == set(net.opened)


def test_a_stalled_copy_holds_nothing_back():
    net = Net(mirror=True)
    stream = net.request(MINE, end=False)
    net.host(CLIENT).acknowledges = False
    for _ in range(40):
        net.client.h2.send_data(stream, b"x" * 16384)
        net.settle()
    net.client.h2.end_stream(stream)
    net.settle()
    assert len(net.host(POD).body(1)) == 40 * 16384
    assert net.host(CLIENT).of(events.StreamReset)
    net.fails(net.last(CLIENT))
    net.request(MINE)
    assert len(net.host(CLIENT).of(events.RequestReceived)) == 1


def test_a_copy_may_still_be_answered_when_the_peer_is_gone():
    net = Net(mirror=True)
    net.request(MINE)
    net.ends(PEER)
    copy = net.last(CLIENT)
    assert copy not in net.closed
    assert net.router.wants_s > 0
    respond(net.host(CLIENT), 1)
    net.settle()
    assert copy in net.closed
    assert net.router.wants_s == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.binary(max_size=100), st.binary(max_size=100), st.booleans()), min_size=1, max_size=6
    ),
    st.randoms(use_true_random=False),
)
def test_each_stream_gets_its_own_answer(sequence, random):
    net = Net()
    asked = {POD: [], CLIENT: []}
    for is_mine, body, said, trailers in sequence:
        stream = net.request(*([MINE] if is_mine else []), body=body)
        asked[CLIENT if is_mine else POD].append((stream, body, said, trailers))
    jobs = [(end, 2 * index + 1, *job) for end, all_ in asked.items() for index, job in enumerate(all_)]
    random.shuffle(jobs)
    for end, at_end, _, body, said, trailers in jobs:
        assert net.host(end).body(at_end) == body
        respond(net.host(end), at_end, said, trailers=[(b"t", b"1")] if trailers else None)
        if random.random() < 0.5:
            net.settle()
    net.settle()
    for _, _, stream, _, said, _ in jobs:
        assert net.client.body(stream) == said
        assert len(net.client.of(events.StreamEnded, stream)) == 1


def recorded():
    """What a peer says in a session of some streams."""
    host = Host(is_client=True)
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"pod")]
    host.h2.send_headers(1, [*head, MINE])
    host.h2.send_data(1, b"hello", end_stream=True)
    host.h2.send_headers(3, head)
    host.h2.send_data(3, b"abc")
    host.h2.send_headers(3, [(b"t", b"1")], end_stream=True)
    return host.h2.data_to_send()


def answered():
    """What a server says to two requests."""
    host = Host(is_client=False)
    host.receive(recorded())
    for stream in (1, 3):
        respond(host, stream, b"body", trailers=[(b"t", b"1")])
    return host.h2.data_to_send()


RECORDED, ANSWERED = recorded(), answered()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, len(RECORDED) - 1), max_size=10))
def test_cuts_make_no_difference(cuts):
    whole, pieces = Wires(), Wires()
    whole.peer(RECORDED)
    places = sorted({0, *cuts, len(RECORDED)})
    for a, b in itertools.pairwise(places):
        pieces.peer(RECORDED[a:b])
    assert {n: d for n, d in whole.sent.items() if n != PEER} == {n: d for n, d in pieces.sent.items() if n != PEER}
    assert whole.opened == pieces.opened


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_are_too_much(data):
    wires = Wires(data.draw(st.sampled_from([ME, BODY])), data.draw(st.booleans()))
    wires.peer(PREFACE)
    spoilt = st.builds(
        lambda base, at, junk, keep: base[: at % (len(base) + 1)] + junk + base[at % (len(base) + 1) + keep :],
        st.sampled_from([RECORDED[24:], ANSWERED]),
        st.integers(0, 10000),
        st.binary(max_size=12),
        st.integers(0, 12),
    )
    frame = st.builds(
        lambda kind, flags, stream, body: struct.pack("!BHBBI", 0, len(body), kind, flags, stream) + body,
        st.integers(0, 12),
        st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 255]),
        st.integers(0, 6),
        st.binary(max_size=30),
    )
    for _ in range(data.draw(st.integers(1, 8))):
        connection = data.draw(st.sampled_from([PEER, PEER, 1, 2, 3]))
        if connection in wires.opened:
            wires.says(connection, data.draw(st.one_of(spoilt, frame, st.just(RECORDED[24:]), st.just(ANSWERED), st.binary())))
        if data.draw(st.integers(0, 9)) == 0 and wires.router.wants_s:
            wires.waits()
        if data.draw(st.integers(0, 9)) == 0 and connection in wires.opened:
            wires.ends(connection)
    wires.fails(PEER)
    for connection in list(wires.opened):
        wires.ends(connection)
    assert set(wires.opened) == set(wires.closed) | set(wires.joined)


def test_a_pod_that_speaks_first():
    net = Net()
    net.hosts[1] = Host(is_client=False)
    net.says(1, net.hosts[1].h2.data_to_send())
    other = net.request(body=b"x")
    assert net.host(POD).body(1) == b"x"
    assert net.count(POD) == 1
    respond(net.host(POD), 1, b"y")
    net.settle()
    assert net.client.body(other) == b"y"
    net = Net()
    net.says(1, b"\0\0\0\4\0\0\0\0\0" + b"\xff" * 9)  # and then garbage
    net.request()
    assert net.closed[1] == 0
    assert net.count(POD) == 2
    assert net.host(POD).of(events.RequestReceived)


def test_what_a_spare_connection_says_while_it_is_not_used():
    net = Net().settle()
    net.hosts[1] = Host(is_client=False)
    net.says(1, net.hosts[1].h2.data_to_send())
    net.request(body=b"x")
    assert net.host(POD).body(1) == b"x"
    assert net.host(POD).of(events.SettingsAcknowledged)
    assert net.count(POD) == 1
