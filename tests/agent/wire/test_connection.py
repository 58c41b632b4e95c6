"""The protocol core: two connections talked into every state, cut at every byte, fed with every kind of rubbish."""

from __future__ import annotations

from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Set, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule
from mirrord_trace.agent.wire import connection as connection_module
from mirrord_trace.agent.wire import frames
from mirrord_trace.agent.wire.codec import encode
from mirrord_trace.agent.wire.connection import PING_AFTER_S, SILENCE_S, Connection, Role
from mirrord_trace.agent.wire.errors import LocalProtocolError, RemoteProtocolError
from mirrord_trace.agent.wire.events import DataReceived, EofReceived, Event, MessageReceived, StreamReset, WindowOpened
from mirrord_trace.agent.wire.messages import Bye, Done, GetPod, Log, ReadLink

WINDOW = 2000
PAYLOAD = 300
LIMIT = 6000


def small(role: Role) -> Connection:
    return Connection(role, window=WINDOW, max_payload=PAYLOAD, unacknowledged_limit=LIMIT)


def pair(make: Callable[[Role], Connection] = Connection) -> Tuple[Connection, Connection]:
    client, agent = make(Role.CLIENT), make(Role.AGENT)
    client.resume(0)
    agent.resume(0)
    return client, agent


def output(connection: Connection) -> bytes:
    out = b""
    while True:
        buffers = connection.take()
        if not buffers:
            return out
        out += b"".join(buffers)


def exchange(sender: Connection, receiver: Connection) -> List[Event]:
    return receiver.receive(output(sender))


def frame(kind: int, stream: int, sequence: int, payload: bytes = b"") -> bytes:
    return frames.HEADER.pack(kind << 24 | len(payload), stream, sequence) + payload


# -- messages -------------------------------------------------------------------------------------------------------


def test_request_and_reply() -> None:
    client, agent = pair()
    ident = client.new_request_id()
    client.send(GetPod(), request_id=ident)
    assert exchange(client, agent) == [MessageReceived(GetPod(), ident, 0)]
    agent.send(Done(), reply_to=ident)
    assert client.open_requests == 1
    assert exchange(agent, client) == [MessageReceived(Done(), 0, ident)]
    assert client.open_requests == 0


def test_replies_may_come_in_any_order() -> None:
    client, agent = pair()
    for path in (b"/a", b"/b"):
        client.send(ReadLink(path), request_id=client.new_request_id())
    first, second = exchange(client, agent)
    assert isinstance(first, MessageReceived)
    assert isinstance(second, MessageReceived)
    agent.send(Bye("second"), reply_to=second.request_id)
    agent.send(Bye("first"), reply_to=first.request_id)
    replies = [event.reply_to for event in exchange(agent, client) if isinstance(event, MessageReceived)]
    assert replies == [second.request_id, first.request_id]


def test_message_larger_than_a_frame() -> None:
    client, agent = pair(small)
    text = "x" * (3 * PAYLOAD + 7)
    client.send(Log(20, text))
    client.send(Log(20, "after"))
    assert exchange(client, agent) == [MessageReceived(Log(20, text), 0, 0), MessageReceived(Log(20, "after"), 0, 0)]


def test_control_overtakes_data() -> None:
    client, agent = pair()
    stream = client.open_stream()
    exchange(client, agent)
    client.send_data(stream, b"bulk")
    client.send(Done())
    events = exchange(client, agent)
    assert [type(event) for event in events] == [MessageReceived, DataReceived]


def test_wrong_use_of_send_is_a_local_error() -> None:
    client, _ = pair()
    with pytest.raises(LocalProtocolError):
        client.send(Done(), request_id=1, reply_to=1)
    with pytest.raises(LocalProtocolError):
        client.send(Done(), reply_to=5)
    client.send(GetPod(), request_id=7)
    with pytest.raises(LocalProtocolError):
        client.send(GetPod(), request_id=7)


def test_number_of_requests_under_way_is_bounded_on_both_sides() -> None:
    client, agent = pair()
    for _ in range(frames.MAX_REQUESTS):
        client.send(GetPod(), request_id=client.new_request_id())
    with pytest.raises(LocalProtocolError):
        client.send(GetPod(), request_id=client.new_request_id())
    exchange(client, agent)
    sequence = frames.MAX_REQUESTS + 1
    with pytest.raises(RemoteProtocolError):
        agent.receive(frame(frames.REQUEST, 99999, sequence, encode(GetPod())))


# -- streams --------------------------------------------------------------------------------------------------------


def test_stream_numbers_have_the_parity_of_their_opener() -> None:
    client, agent = pair()
    assert [client.open_stream(), client.open_stream()] == [1, 3]
    assert [agent.open_stream(), agent.open_stream()] == [2, 4]


def test_data_both_ways_and_half_close() -> None:
    client, agent = pair()
    stream = client.open_stream()
    client.send_data(stream, b"question")
    client.send_eof(stream)
    assert exchange(client, agent) == [DataReceived(stream, memoryview(b"question")), EofReceived(stream)]
    agent.send_data(stream, b"answer")
    assert exchange(agent, client) == [DataReceived(stream, memoryview(b"answer"))]
    assert client.is_open(stream)
    assert agent.is_open(stream)
    agent.send_eof(stream)
    assert exchange(agent, client) == [EofReceived(stream)]
    assert not client.is_open(stream)
    assert not agent.is_open(stream)
    assert client.open_streams == agent.open_streams == 0


def test_window_is_spent_and_comes_back_in_batches() -> None:
    client, agent = pair(small)
    stream = client.open_stream()
    client.send_data(stream, bytes(WINDOW))
    assert client.send_window(stream) == 0
    with pytest.raises(LocalProtocolError):
        client.send_data(stream, b"x")
    assert sum(len(event.data) for event in exchange(client, agent) if isinstance(event, DataReceived)) == WINDOW
    agent.consumed(stream, WINDOW // 4 - 1)
    assert exchange(agent, client) == []
    agent.consumed(stream, 1)
    assert exchange(agent, client) == [WindowOpened(stream)]
    assert client.send_window(stream) == WINDOW // 4
    with pytest.raises(LocalProtocolError):
        agent.consumed(stream, WINDOW)


def test_reset_keeps_what_was_sent_before_and_drops_what_comes_after() -> None:
    client, agent = pair()
    stream = client.open_stream()
    client.send_data(stream, b"last words")
    client.reset(stream, 104)
    assert exchange(client, agent) == [DataReceived(stream, memoryview(b"last words")), StreamReset(stream, 104)]
    agent.send_data(stream, b"nobody")  # vanishes: the stream is closed here too
    agent.consumed(stream, 10)
    agent.reset(stream, 1)
    assert output(agent) == b""


def test_frames_that_crossed_a_reset_are_dropped() -> None:
    client, agent = pair()
    stream = client.open_stream()
    exchange(client, agent)
    agent.send_data(stream, b"under way")
    agent.send_eof(stream)
    crossing = output(agent)
    client.reset(stream, 0)
    assert client.receive(crossing) == []
    assert exchange(client, agent) == [StreamReset(stream, 0)]


def test_streams_take_turns() -> None:
    client, agent = pair(small)
    streams = [client.open_stream() for _ in range(3)]
    for stream in streams:
        client.send_data(stream, bytes(PAYLOAD * 2))
    order = [event.stream for event in exchange(client, agent) if isinstance(event, DataReceived)]
    assert order == streams * 2


def test_a_stalled_stream_stops_neither_others_nor_messages() -> None:
    client, agent = pair(small)
    stalled, other = client.open_stream(), client.open_stream()
    client.send_data(stalled, bytes(WINDOW))  # never consumed
    exchange(client, agent)
    for _ in range(20):
        client.send_data(other, bytes(PAYLOAD))
        client.send(Done())
        kinds = []
        for event in exchange(client, agent):
            kinds.append(type(event))
            if isinstance(event, DataReceived):
                agent.consumed(other, len(event.data))
        assert kinds == [MessageReceived, DataReceived]
        agent.tick(0.0)
        exchange(agent, client)


def test_data_never_precedes_the_opening_of_its_stream() -> None:
    client, agent = pair(small)
    client.send(Log(10, "x" * 2000))  # a long queue of control frames in front of OPEN
    stream = client.open_stream()
    client.send_data(stream, b"data")
    events: List[Event] = []
    while True:
        buffers = client.take(PAYLOAD)
        if not buffers:
            break
        events += agent.receive(b"".join(buffers))
    assert [type(event) for event in events] == [MessageReceived, DataReceived]


def test_no_new_data_while_too_much_is_unacknowledged() -> None:
    client, agent = pair(small)
    sent = b""
    for _ in range(30):
        stream = client.open_stream()
        client.send_data(stream, bytes(PAYLOAD))
        sent += output(client)
    assert client.backlog > 0
    client.send(Done())
    control = output(client)
    assert len(control) == 12 + len(encode(Done()))
    agent.receive(sent + control)
    agent.tick(0.0)
    exchange(agent, client)
    assert output(client) != b""


# -- the transport --------------------------------------------------------------------------------------------------


def test_resume_replays_what_the_peer_lacks() -> None:
    client, agent = pair()
    client.send(Log(10, "one"))
    client.send(Log(10, "two"))
    client.send(Log(10, "three"))
    data = output(client)
    assert agent.receive(data[:-3]) == [MessageReceived(Log(10, t), 0, 0) for t in ("one", "two")]
    client.disconnected()
    agent.disconnected()
    assert client.take() == []
    client.resume(agent.received)
    agent.resume(client.received)
    assert exchange(client, agent) == [MessageReceived(Log(10, "three"), 0, 0)]


def test_frames_replayed_without_need_are_dropped() -> None:
    client, agent = pair()
    client.send(Log(10, "one"))
    first = output(client)
    agent.receive(first)
    client.resume(0)
    agent.resume(0)
    client.send(Log(10, "two"))
    assert exchange(client, agent) == [MessageReceived(Log(10, "two"), 0, 0)]


@pytest.mark.parametrize("claim", [-1, 3])
def test_impossible_counts_at_resume(claim: int) -> None:
    client, _ = pair()
    client.send(Done())
    client.send(Done())
    output(client)
    with pytest.raises(RemoteProtocolError):
        client.resume(claim)


def test_acknowledged_after_64_frames_or_256_kib() -> None:
    client, agent = pair()
    for _ in range(connection_module.ACK_FRAMES - 1):
        client.send(Done())
    exchange(client, agent)
    assert output(agent) == b""
    client.send(Done())
    exchange(client, agent)
    assert output(agent) == frame(frames.ACK, 0, 0, frames.U64.pack(64))
    stream = client.open_stream()
    client.send_data(stream, bytes(connection_module.ACK_BYTES))
    exchange(client, agent)
    assert output(agent)[:1] == bytes([frames.ACK])


def test_tick_acknowledges_pings_and_notices_silence() -> None:
    client, agent = pair()
    client.send(Done())
    exchange(client, agent)
    assert agent.tick(0.0)
    assert output(agent)[:1] == bytes([frames.ACK])
    assert agent.tick(PING_AFTER_S)
    ping = output(agent)
    assert ping[:1] == bytes([frames.PING])
    client.receive(ping)
    agent.receive(output(client))
    assert agent.tick(PING_AFTER_S + 1)
    assert agent.tick(PING_AFTER_S + SILENCE_S)
    assert not agent.tick(PING_AFTER_S + 1 + SILENCE_S)


def test_many_pings_make_one_pong() -> None:
    client, _ = pair()
    for number in range(1000):
        client.receive(frame(frames.PING, 0, 0, frames.U64.pack(number)))
    assert output(client) == frame(frames.PONG, 0, 0, frames.U64.pack(999))


def test_sequence_numbers_wrap() -> None:
    client, agent = pair()
    client._outgoing.sent = client._outgoing.acknowledged = agent.received = 2**32 - 2
    for number in range(4):
        client.send(Log(10, str(number)))
    assert exchange(client, agent) == [MessageReceived(Log(10, str(number)), 0, 0) for number in range(4)]
    assert agent.received == 2**32 + 2


# -- violations -----------------------------------------------------------------------------------------------------

OPEN_1 = frame(frames.OPEN, 1, 1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(frame(frames.DATA, 1, 1, b"x"), id="data on a stream never opened"),
        pytest.param(frame(frames.DATA, 2, 1, b"x"), id="data on our stream, never opened"),
        pytest.param(frame(frames.DATA, 0, 1, b"x"), id="data without a stream"),
        pytest.param(OPEN_1 + frame(frames.DATA, 1, 2), id="empty data"),
        pytest.param(frame(frames.OPEN, 2, 1), id="wrong parity"),
        pytest.param(frame(frames.OPEN, 3, 1), id="number skipped"),
        pytest.param(OPEN_1 + frame(frames.OPEN, 1, 2), id="number used twice"),
        pytest.param(OPEN_1 + frame(frames.EOF, 1, 2) + frame(frames.EOF, 1, 3), id="ended twice"),
        pytest.param(OPEN_1 + frame(frames.EOF, 1, 2) + frame(frames.DATA, 1, 3, b"x"), id="data after EOF"),
        pytest.param(OPEN_1 + frame(frames.CREDIT, 1, 2, b"\0\0\0\1"), id="credit for nothing"),
        pytest.param(OPEN_1 + frame(frames.CREDIT, 1, 2, b"\0\0\0\0"), id="credit of nothing"),
        pytest.param(OPEN_1 + frame(frames.RESET, 1, 2, b"\0\1\0\0"), id="no such errno"),
        pytest.param(frame(frames.OPEN, 1, 2), id="gap in the sequence"),
        pytest.param(frame(frames.ACK, 0, 0, frames.U64.pack(1)), id="ACK of the future"),
        pytest.param(frame(frames.REPLY, 1, 1, encode(Done())), id="reply to nothing"),
        pytest.param(
            frame(frames.REQUEST, 1, 1, encode(GetPod())) + frame(frames.REQUEST, 1, 2, encode(GetPod())), id="request twice"
        ),
        pytest.param(frame(frames.NOTICE, 0, 1, b"\x91\xcd\xff\xff"), id="unknown message"),
        pytest.param(
            frame(frames.NOTICE | frames.MORE, 0, 1, b"\x91") + frame(frames.REQUEST, 1, 2, b"\x01"), id="message in a message"
        ),
    ],
)
def test_violations(data: bytes) -> None:
    _, agent = pair()
    with pytest.raises(RemoteProtocolError):
        agent.receive(data)
    with pytest.raises(RemoteProtocolError):  # and there is no way back
        agent.receive(b"")


def test_credit_overrun() -> None:
    _, agent = pair(small)
    agent.receive(OPEN_1 + b"".join(frame(frames.DATA, 1, 2 + n, bytes(500)) for n in range(4)))
    with pytest.raises(RemoteProtocolError):
        agent.receive(frame(frames.DATA, 1, 6, b"x"))


def test_message_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 1000)
    _, agent = pair()
    agent.receive(frame(frames.NOTICE | frames.MORE, 0, 1, bytes(1000)))
    with pytest.raises(RemoteProtocolError):
        agent.receive(frame(frames.NOTICE, 0, 2, b"x"))


def test_too_many_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_STREAMS", 4)
    client, agent = pair()
    client.open_stream()
    client.open_stream()
    with pytest.raises(LocalProtocolError):
        client.open_stream()
    agent.receive(b"".join(frame(frames.OPEN, 2 * n + 1, n + 1) for n in range(4)))
    with pytest.raises(RemoteProtocolError):
        agent.receive(frame(frames.OPEN, 9, 5))


# -- any bytes ------------------------------------------------------------------------------------------------------


@st.composite
def frame_like(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([*frames.LENGTHS, frames.NOTICE | frames.MORE, 0, 12]))
    payload = draw(st.one_of(st.sampled_from([encode(Done()), b"\0\0\0\1", bytes(8), b""]), st.binary(max_size=40)))
    return frame(kind, draw(st.integers(0, 5)), draw(st.integers(0, 6)), payload)


@st.composite
def conversation(draw: st.DrawFn) -> bytes:
    """The bytes of a well-behaved client, perhaps damaged in one place."""
    client = small(Role.CLIENT)
    client.resume(0)
    for step in draw(st.lists(st.integers(0, 5), max_size=12)):
        stream = client.open_stream() if step == 0 else 1
        if step == 1:
            client.send(Log(10, "n" * draw(st.integers(0, 700))))
        elif step == 2:
            client.send(GetPod(), request_id=client.new_request_id())
        elif client.is_open(stream) and step == 3 and client.send_window(stream) > 400:
            client.send_data(stream, bytes(draw(st.integers(1, 400))))
        elif client.is_open(stream) and step == 4:
            client.send_eof(stream)
        elif client.is_open(stream) and step == 5:
            client.reset(stream, 104)
    data = output(client)
    if data and draw(st.booleans()):
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
    return data


def outcome(chunks: List[bytes]) -> Optional[List[Event]]:
    agent = small(Role.AGENT)
    agent.resume(0)
    events: List[Event] = []
    try:
        for chunk in chunks:
            events += agent.receive(chunk)
    except RemoteProtocolError:
        return None
    return events


any_bytes = st.one_of(st.binary(max_size=200), st.lists(frame_like(), max_size=6).map(b"".join), conversation())


@settings(max_examples=400, deadline=None)
@given(any_bytes, st.lists(st.integers(0, 1500), max_size=5))
def test_any_bytes_cut_anywhere_give_the_same(data: bytes, cuts: List[int]) -> None:
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    whole = outcome([data])
    assert outcome([data[n : n + 1] for n in range(len(data))]) == whole
    assert outcome([data[bounds[n] : bounds[n + 1]] for n in range(len(bounds) - 1)]) == whole


# -- the model ------------------------------------------------------------------------------------------------------


class Side:
    """One connection, what it was told to send, and what it received."""

    def __init__(self, role: Role) -> None:
        self.connection = small(role)
        self.connection.resume(0)
        self.pipe = bytearray()  # on the way to the peer
        self.notices: List[str] = []
        self.asked: Dict[int, bytes] = {}
        self.to_answer: Deque[Tuple[int, bytes]] = deque()
        self.sent: Dict[int, bytearray] = {}
        self.ended: Dict[int, str] = {}
        self.half_closed: Set[int] = set()
        self.got: Dict[int, bytearray] = {}
        self.got_end: Dict[int, str] = {}
        self.unconsumed: Dict[int, int] = {}
        self.got_notices: List[str] = []
        self.answers: List[Tuple[bytes, str]] = []

    def receive(self, data: bytes) -> None:
        for event in self.connection.receive(data):
            if isinstance(event, MessageReceived):
                self._message(event)
            elif isinstance(event, DataReceived):
                assert event.stream not in self.got_end
                self.got.setdefault(event.stream, bytearray()).extend(event.data)
                self.unconsumed[event.stream] = self.unconsumed.get(event.stream, 0) + len(event.data)
            elif isinstance(event, EofReceived):
                assert event.stream not in self.got_end
                self.got_end[event.stream] = "eof"
            elif isinstance(event, StreamReset):
                assert self.got_end.get(event.stream) in (None, "eof")
                self.got_end[event.stream] = f"reset {event.errno}"

    def _message(self, event: MessageReceived) -> None:
        message = event.message
        if event.request_id:
            assert isinstance(message, ReadLink)
            self.to_answer.append((event.request_id, message.path))
        elif event.reply_to:
            assert isinstance(message, Bye)
            self.answers.append((self.asked.pop(event.reply_to), message.reason))
        else:
            assert isinstance(message, Log)
            self.got_notices.append(message.text)

    def answer(self, last: bool) -> None:
        if self.to_answer:
            ident, path = self.to_answer.pop() if last else self.to_answer.popleft()
            self.connection.send(Bye(path.hex()), reply_to=ident)

    def consume(self) -> None:
        for stream, size in self.unconsumed.items():
            self.connection.consumed(stream, size)
        self.unconsumed.clear()


class TwoSides(RuleBasedStateMachine):
    """Two connections over a transport that may be cut anywhere: nothing is lost, doubled or out of order."""

    streams = Bundle("streams")

    @initialize()
    def start(self) -> None:
        self.sides = (Side(Role.CLIENT), Side(Role.AGENT))
        self.byte = 0
        self.now = 0.0

    def pattern(self, size: int) -> bytes:
        self.byte += 1
        return bytes((self.byte + n) % 251 for n in range(size))

    @rule(target=streams, at=st.integers(0, 1))
    def open_stream(self, at: int) -> int:
        return self.sides[at].connection.open_stream()

    @rule(at=st.integers(0, 1), stream=streams, size=st.integers(1, 900))
    def data(self, at: int, stream: int, size: int) -> None:
        side = self.sides[at]
        size = min(size, side.connection.send_window(stream) if side.connection.is_open(stream) else 0)
        if size and stream not in side.ended:
            payload = self.pattern(size)
            side.connection.send_data(stream, payload)
            side.sent.setdefault(stream, bytearray()).extend(payload)

    @rule(at=st.integers(0, 1), stream=streams)
    def eof(self, at: int, stream: int) -> None:
        side = self.sides[at]
        if side.connection.is_open(stream) and stream not in side.ended:
            side.connection.send_eof(stream)
            side.ended[stream] = "eof"
            side.half_closed.add(stream)

    @rule(at=st.integers(0, 1), stream=streams, errno=st.integers(0, 200))
    def reset(self, at: int, stream: int, errno: int) -> None:
        side = self.sides[at]
        if side.connection.is_open(stream):
            side.connection.reset(stream, errno)
            side.ended[stream] = f"reset {errno}"

    @rule(at=st.integers(0, 1), size=st.integers(0, 1000))
    def notice(self, at: int, size: int) -> None:
        side = self.sides[at]
        text = f"{len(side.notices)} " + "n" * size
        side.connection.send(Log(10, text))
        side.notices.append(text)

    @rule(at=st.integers(0, 1), path=st.binary(max_size=20))
    def request(self, at: int, path: bytes) -> None:
        side = self.sides[at]
        ident = side.connection.new_request_id()
        side.connection.send(ReadLink(path), request_id=ident)
        side.asked[ident] = path

    @rule(at=st.integers(0, 1), last=st.booleans())
    def answer(self, at: int, last: bool) -> None:
        self.sides[at].answer(last)

    @rule(at=st.integers(0, 1))
    def consume(self, at: int) -> None:
        self.sides[at].consume()

    @rule(at=st.integers(0, 1), take=st.integers(1, 3000), size=st.integers(0, 3000))
    def move(self, at: int, take: int, size: int) -> None:
        sender, receiver = self.sides[at], self.sides[1 - at]
        sender.pipe += b"".join(sender.connection.take(take))
        chunk = bytes(sender.pipe[:size])
        del sender.pipe[:size]
        receiver.receive(chunk)

    @rule(late=st.integers(0, 500))
    def cut(self, late: int) -> None:
        client, agent = self.sides
        client.connection.disconnected()
        agent_count = agent.connection.received  # as the handshake saw it, while the old transport still delivered
        agent.receive(bytes(client.pipe[:late]))
        client.pipe.clear()
        agent.pipe.clear()
        agent.connection.disconnected()
        agent.connection.resume(client.connection.received)
        client.connection.resume(agent_count)

    @rule()
    def tick(self) -> None:
        self.now += 1.0
        for side in self.sides:
            assert side.connection.tick(self.now) or self.now >= SILENCE_S

    def settle(self) -> None:
        for _ in range(200):
            moved = 0
            for at in (0, 1):
                sender, receiver = self.sides[at], self.sides[1 - at]
                sender.pipe += output(sender.connection)
                moved += len(sender.pipe)
                receiver.receive(bytes(sender.pipe))
                sender.pipe.clear()
                receiver.consume()
                while receiver.to_answer:
                    receiver.answer(last=False)
            if not moved and all(side.connection.backlog == 0 for side in self.sides):
                return
            for side in self.sides:
                side.connection.tick(self.now)
        raise AssertionError("it does not come to rest")

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        self.settle()
        for side, peer in (self.sides, self.sides[::-1]):
            assert peer.got_notices == side.notices
            assert not side.asked
            assert all(path.hex() == reason for path, reason in side.answers)
            for stream in {*side.sent, *side.ended}:
                self.check_stream(side, peer, stream)

    def check_stream(self, side: Side, peer: Side, stream: int) -> None:
        sent, got = bytes(side.sent.get(stream, b"")), bytes(peer.got.get(stream, b""))
        assert sent.startswith(got)
        ours, theirs = side.ended.get(stream, ""), peer.ended.get(stream, "")
        if not theirs.startswith("reset") and not side.got_end.get(stream, "").startswith("reset"):
            assert got == sent
            # A reset behind our own EOF finds the stream closed if the peer had ended its direction too.
            assert peer.got_end.get(stream, "") == ours or (stream in side.half_closed and theirs == "eof")
        if ours.startswith("reset") or theirs.startswith("reset"):
            assert not side.connection.is_open(stream)
            assert not peer.connection.is_open(stream)


TestTwoSides = TwoSides.TestCase
TestTwoSides.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
