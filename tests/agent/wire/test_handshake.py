"""Two sides that know the secret agree; everybody else is turned away at once."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.wire import handshake
from mirrord_trace.agent.wire.errors import LocalProtocolError, RemoteProtocolError
from mirrord_trace.agent.wire.handshake import AgentHandshake, ClientHandshake, HandshakeResult

SECRET = bytes(range(32))


def nothing(session: bytes) -> Optional[int]:
    raise AssertionError("no session was to be resumed")


def no_session(session: bytes) -> Optional[int]:
    return None


def agree(client: ClientHandshake, agent: AgentHandshake, step: int = 1 << 20) -> Tuple[HandshakeResult, HandshakeResult]:
    for _ in range(4):
        for sender, receiver in ((client, agent), (agent, client)):
            data = sender.output()
            for at in range(0, len(data), step):
                receiver.receive(data[at : at + step])
    assert client.result is not None
    assert agent.result is not None
    return client.result, agent.result


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_new_session(step: int) -> None:
    client, agent = agree(ClientHandshake(SECRET), AgentHandshake(SECRET, nothing, 60), step)
    assert client == agent
    assert client.version == 1
    assert client.lease_s == 60
    assert not client.resumed
    assert len(client.session) == handshake.SESSION_BYTES
    assert client.peer_received == 0


def test_sessions_have_different_names() -> None:
    names = {agree(ClientHandshake(SECRET), AgentHandshake(SECRET, nothing, 60))[0].session for _ in range(3)}
    assert len(names) == 3


def test_resume_tells_each_what_the_other_has() -> None:
    first, _ = agree(ClientHandshake(SECRET), AgentHandshake(SECRET, nothing, 60))
    known: Dict[bytes, int] = {first.session: 2**40}
    client, agent = agree(ClientHandshake(SECRET, first.session, 5), AgentHandshake(SECRET, known.get, 60))
    assert (client.peer_received, agent.peer_received) == (2**40, 5)
    assert client.session == agent.session == first.session
    assert client.resumed
    assert agent.resumed


def test_unknown_session() -> None:
    client, agent = ClientHandshake(SECRET, bytes(15) + b"x", 5), AgentHandshake(SECRET, no_session, 60)
    agent.receive(client.output())
    with pytest.raises(RemoteProtocolError, match="no longer knows"):
        client.receive(agent.output())


def test_no_common_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "VERSIONS", (2, 3))
    client = ClientHandshake(SECRET)
    monkeypatch.setattr(handshake, "VERSIONS", (1, 1))
    agent = AgentHandshake(SECRET, nothing, 60)
    agent.receive(client.output())
    with pytest.raises(RemoteProtocolError, match="version"):
        client.receive(agent.output())


def test_highest_common_version_and_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "VERSIONS", (1, 3))
    monkeypatch.setattr(handshake, "CAPABILITIES", frozenset({"old", "new"}))
    client = ClientHandshake(SECRET)
    hello = client.output()
    monkeypatch.setattr(handshake, "VERSIONS", (1, 2))
    monkeypatch.setattr(handshake, "CAPABILITIES", frozenset({"old", "other"}))
    agent = AgentHandshake(SECRET, nothing, 60)
    agent.receive(hello)
    monkeypatch.setattr(handshake, "VERSIONS", (1, 3))
    monkeypatch.setattr(handshake, "CAPABILITIES", frozenset({"old", "new"}))
    client.receive(agent.output())
    agent.receive(client.output())
    assert client.result is not None
    assert client.result.version == 2
    assert client.result.capabilities == {"old"}


def test_agent_without_the_secret() -> None:
    client, agent = ClientHandshake(SECRET), AgentHandshake(SECRET[::-1], nothing, 60)
    agent.receive(client.output())
    with pytest.raises(RemoteProtocolError, match="secret"):
        client.receive(agent.output())


def test_client_without_the_secret() -> None:
    class Liar(ClientHandshake):
        def _check_proof(self, label: bytes, proof: bytes) -> None:
            pass

    client, agent = Liar(SECRET[::-1]), AgentHandshake(SECRET, nothing, 60)
    agent.receive(client.output())
    client.receive(agent.output())
    with pytest.raises(RemoteProtocolError, match="secret"):
        agent.receive(client.output())
    with pytest.raises(RemoteProtocolError, match="secret"):
        agent.receive(b"")
    assert agent.result is None


def test_a_proof_is_worth_nothing_in_another_handshake() -> None:
    client, agent = ClientHandshake(SECRET), AgentHandshake(SECRET, nothing, 60)
    hello = client.output()
    agent.receive(hello)
    client.receive(agent.output())
    proof = client.output()
    other = AgentHandshake(SECRET, nothing, 60)
    other.receive(hello)
    with pytest.raises(RemoteProtocolError):
        other.receive(proof)


def test_leftover_belongs_to_the_connection() -> None:
    client, agent = ClientHandshake(SECRET), AgentHandshake(SECRET, nothing, 60)
    agent.receive(client.output())
    client.receive(agent.output() + b"frames of the agent")
    agent.receive(client.output() + b"frames of the client")
    assert client.result is not None
    assert client.result.leftover == b"frames of the agent"
    assert agent.result is not None
    assert agent.result.leftover == b"frames of the client"
    with pytest.raises(LocalProtocolError):
        client.receive(b"")


@pytest.mark.parametrize("data", [b"G", b"SSH-2.0-x", b"MTWIRE\n", handshake.MAGIC + b"\0\0", handshake.MAGIC + b"\xff\xff"])
def test_garbage_shows_at_its_first_bytes(data: bytes) -> None:
    for side in (ClientHandshake(SECRET), AgentHandshake(SECRET, nothing, 60)):
        with pytest.raises(RemoteProtocolError):
            side.receive(data)


def test_short_secret() -> None:
    with pytest.raises(LocalProtocolError):
        ClientHandshake(b"short")


@given(st.binary(max_size=200), st.booleans())
def test_any_body_is_refused(body: bytes, to_agent: bool) -> None:
    side = AgentHandshake(SECRET, no_session, 60) if to_agent else ClientHandshake(SECRET)
    side.output()
    try:
        side.receive(handshake.MAGIC + len(body).to_bytes(2, "big") + body)
        side.receive(handshake.MAGIC + len(body).to_bytes(2, "big") + body)
    except RemoteProtocolError:
        pass
    assert side.result is None


@given(st.integers(0, 400), st.integers(0, 7))
def test_no_bit_may_change_on_the_way(at: int, bit: int) -> None:
    client, agent = ClientHandshake(SECRET), AgentHandshake(SECRET, no_session, 60)
    total = 0
    try:
        for sender, receiver in ((client, agent), (agent, client), (client, agent)):
            data = bytearray(sender.output())
            if total <= at < total + len(data):
                data[at - total] ^= 1 << bit
            total += len(data)
            receiver.receive(bytes(data))
    except RemoteProtocolError:
        pass
    assert (agent.result is None) == (at < total)
