"""How a transport becomes a session: version, capabilities, resume, and proof of a shared one-time secret.

Three messages, all of them tagged with a magic and a length, so that a peer that is something else shows at its first
bytes: `ClientHello`, `AgentHello` (with the agent's proof), `ClientProof`. A proof is HMAC-SHA256 under the secret of
a label and everything said so far, both nonces included; so neither can be replayed, and nobody in between can lower
the version. Integers are big endian.

    every message   magic 8 bytes "MTWIRE\\r\\n" | length u16 | body
    ClientHello     lowest version u16 | highest version u16 | nonce 32 | session 16 (zeros: a new one)
                    | frames received u64 | capabilities
    AgentHello      status u8 | version u16 | nonce 32 | session 16 | frames received u64 | lease_s u32
                    | capabilities | proof 32
    ClientProof     proof 32
    capabilities    count u8, then each: length u8, ASCII
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from dataclasses import dataclass
from typing import Callable, FrozenSet, Iterable, Optional, Tuple

from .errors import LocalProtocolError, RemoteProtocolError

MAGIC = b"MTWIRE\r\n"
VERSIONS = (1, 1)
"""Lowest and highest protocol version that this code speaks."""

CAPABILITIES: FrozenSet[str] = frozenset()
"""Optional parts of the protocol that this code knows. Both sides use what both have."""

MAX_BODY_BYTES = 1024
SESSION_BYTES = 16
NONCE_BYTES = 32
PROOF_BYTES = 32

OK = 0
NO_COMMON_VERSION = 1
UNKNOWN_SESSION = 2

_STATUS_TEXTS = {
    NO_COMMON_VERSION: "the agent speaks no protocol version of ours",
    UNKNOWN_SESSION: "the agent no longer knows this session",
}
_PREFIX = struct.Struct("!8sH")
_CLIENT_HELLO = struct.Struct("!HH32s16sQ")
_AGENT_HELLO = struct.Struct("!BH32s16sQI")
_NO_SESSION = bytes(SESSION_BYTES)


@dataclass(frozen=True)
class HandshakeResult:
    """What both sides agreed on.

    `session`: give it to the next `ClientHandshake` to resume. `peer_received`: for `Connection.resume`. `leftover`:
    bytes after the handshake, for `Connection.receive`. `resumed`: an earlier session goes on.
    """

    session: bytes
    peer_received: int
    version: int
    capabilities: FrozenSet[str]
    lease_s: int
    resumed: bool
    leftover: bytes


class _Handshake:
    # What both sides share: framing of the messages, and the proofs over the transcript.

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise LocalProtocolError("the secret is too short")
        self.result: Optional[HandshakeResult] = None
        self._secret = secret
        self._transcript = b""
        self._input = bytearray()
        self._output = bytearray()
        self._nonce = os.urandom(NONCE_BYTES)
        self._broken: Optional[RemoteProtocolError] = None

    def output(self) -> bytes:
        """What is to be sent now; each byte is returned once."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def receive(self, data: bytes) -> None:
        """Bytes from the peer, cut anywhere. RemoteProtocolError: send what `output` has, then close."""
        if self._broken is not None:
            raise self._broken
        if self.result is not None:
            raise LocalProtocolError("the handshake is over")
        self._input += data
        try:
            while self.result is None:
                body = self._next_body()
                if body is None:
                    return
                self._act(body)
        except RemoteProtocolError as error:
            self._broken = error
            raise

    def _next_body(self) -> Optional[bytes]:
        start = bytes(self._input[: len(MAGIC)])
        if start != MAGIC[: len(start)]:
            raise RemoteProtocolError("the peer does not speak this protocol")
        if len(self._input) < _PREFIX.size:
            return None
        length = _PREFIX.unpack_from(self._input)[1]
        if not 0 < length <= MAX_BODY_BYTES:
            raise RemoteProtocolError(f"handshake message of {length} bytes")
        end = _PREFIX.size + length
        if len(self._input) < end:
            return None
        body = bytes(self._input[_PREFIX.size : end])
        del self._input[:end]
        return body

    def _act(self, body: bytes) -> None:
        raise NotImplementedError

    def _say(self, body: bytes) -> None:
        self._output += _PREFIX.pack(MAGIC, len(body)) + body
        self._transcript += body

    def _proof(self, label: bytes) -> bytes:
        return hmac.new(self._secret, label + self._transcript, hashlib.sha256).digest()

    def _check_proof(self, label: bytes, proof: bytes) -> None:
        if not hmac.compare_digest(self._proof(label), proof):
            raise RemoteProtocolError("the peer does not know this session's secret")

    def _finish(self, session: bytes, received: int, version: int, names: FrozenSet[str], lease_s: int, resumed: bool) -> None:
        leftover = bytes(self._input)
        self._input.clear()
        self.result = HandshakeResult(session, received, version, names & CAPABILITIES, lease_s, resumed, leftover)


class ClientHandshake(_Handshake):
    """The client's side. `session` and `received` (frames) resume a session; both empty begin one."""

    def __init__(self, secret: bytes, session: bytes = b"", received: int = 0) -> None:
        super().__init__(secret)
        self._session = session or _NO_SESSION
        hello = _CLIENT_HELLO.pack(*VERSIONS, self._nonce, self._session, received)
        self._say(hello + _pack_names(CAPABILITIES))

    def _act(self, body: bytes) -> None:
        if len(body) < _AGENT_HELLO.size + PROOF_BYTES:
            raise RemoteProtocolError("agent hello too short")
        said, proof = body[:-PROOF_BYTES], body[-PROOF_BYTES:]
        self._transcript += said
        self._check_proof(b"agent", proof)
        status, version, _, session, received, lease_s = _AGENT_HELLO.unpack_from(said)
        names = _unpack_names(said[_AGENT_HELLO.size :])
        if status != OK:
            raise RemoteProtocolError(_STATUS_TEXTS.get(status, f"the agent refused with status {status}"))
        resumed = self._session != _NO_SESSION
        if not VERSIONS[0] <= version <= VERSIONS[1] or (resumed and session != self._session):
            raise RemoteProtocolError("the agent answered what was not asked")
        self._transcript += proof
        self._say(self._proof(b"client"))
        self._finish(session, received, version, names, lease_s, resumed)


class AgentHandshake(_Handshake):
    """The agent's side. `lookup(session)` is the number of frames received in a session, None if there is none such.

    It is called before the client is proven, so it must change nothing. `lease_s`: how long a session outlives its
    transport here.
    """

    def __init__(self, secret: bytes, lookup: Callable[[bytes], Optional[int]], lease_s: int) -> None:
        super().__init__(secret)
        self._lookup = lookup
        self._lease_s = lease_s
        self._hello: Optional[Tuple[int, int, bytes, int, FrozenSet[str]]] = None

    def _act(self, body: bytes) -> None:
        if self._hello is None:
            self._answer(body)
        else:
            self._check_proof(b"client", body)
            status, version, session, received, names = self._hello
            if status != OK:
                raise RemoteProtocolError(f"the client's hello was refused with status {status}")
            resumed = session == self._asked_session
            self._finish(session, received, version, names, self._lease_s, resumed)

    def _answer(self, body: bytes) -> None:
        if len(body) < _CLIENT_HELLO.size:
            raise RemoteProtocolError("client hello too short")
        lowest, highest, _, session, peer_received = _CLIENT_HELLO.unpack_from(body)
        names = _unpack_names(body[_CLIENT_HELLO.size :])
        self._transcript = body
        self._asked_session = session
        version = min(highest, VERSIONS[1])
        status, received = OK, 0
        if version < max(lowest, VERSIONS[0]):
            status, version = NO_COMMON_VERSION, 0
        elif session == _NO_SESSION:
            session = os.urandom(SESSION_BYTES)
        else:
            known = self._lookup(session)
            status, received = (UNKNOWN_SESSION, 0) if known is None else (OK, known)
        said = _AGENT_HELLO.pack(status, version, self._nonce, session, received, self._lease_s)
        said += _pack_names(CAPABILITIES)
        self._transcript += said
        proof = self._proof(b"agent")
        self._transcript += proof
        self._output += _PREFIX.pack(MAGIC, len(said) + len(proof)) + said + proof
        self._hello = (status, version, session, peer_received, names)


def _pack_names(names: Iterable[str]) -> bytes:
    packed = [name.encode("ascii") for name in sorted(names)]
    return bytes([len(packed)]) + b"".join(bytes([len(name)]) + name for name in packed)


def _unpack_names(data: bytes) -> FrozenSet[str]:
    names = []
    position = 1
    for _ in range(data[0] if data else 0):
        size = data[position] if position < len(data) else 0
        name = data[position + 1 : position + 1 + size]
        if not size or len(name) != size or not name.isascii():
            raise RemoteProtocolError("malformed capabilities")
        names.append(name.decode("ascii"))
        position += 1 + size
    if position != len(data):
        raise RemoteProtocolError("malformed capabilities")
    return frozenset(names)
