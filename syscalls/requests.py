"""What handlers ask of the relay: the messages of the link between tracer and relay that the agent never sees.

`OpenFile` and the other agent requests go over the same link; the relay passes them on. Its replies to `OpenFile`
bring an fd: the relay puts the content into a sealed memfd (or an unlinked file, if large) and sends that, with
`Opened.content` empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..agent.wire.messages import Address, Message, message


@message(200)
@dataclass(frozen=True)
class StartConnect(Message):
    """Tell: connect from the pod to `peer` for the tracee's TCP socket known as `key`.

    The tracee's socket is bound to `local` and its connect(2) is or will be in SYN_SENT towards the relay's full
    listener of `local`'s family. The relay sends a `Verdict`, then settles the socket by simultaneous open.
    """

    key: int
    peer: Address
    local: Address


@message(201)
@dataclass(frozen=True)
class Verdict(Message):
    """Tell, relay to tracer, always before the tracee's socket changes state: the outcome of `StartConnect` `key`.

    `errno` 0: connected, with the pod's addresses. Otherwise the errno that the application must see.
    """

    key: int
    errno: int
    local: Address
    peer: Address


@message(202)
@dataclass(frozen=True)
class UdpPeer(Message):
    """Tell, with one fd: a UDP socket of ours on loopback that stands for `peer` towards the tracee's socket `key`.

    Datagrams that the tracee's socket sends to it leave from the pod to `peer`; answers from `peer` come back through
    it. All peers of one `key` share one socket in the pod. `family` is the tracee socket's, 4 or 6.
    """

    key: int
    family: int
    peer: Address


@message(203)
@dataclass(frozen=True)
class Listen(Message):
    """Ask: the tracee listens on `local` (a socket with inode `inode` in /proc/net/tcp{,6}); steal pod port `port`.

    Reply: Done or Failed(errno). The relay watches the listener and gives the port back when it is gone.
    """

    inode: int
    local: Address
    port: int


@message(204)
@dataclass(frozen=True)
class GetCounts(Message):
    """Ask, at the end, for --stats. Reply: `Counts`."""


@message(205)
@dataclass(frozen=True)
class Counts(Message):
    """Reply to `GetCounts`: requests answered by the agent, and bytes on the channel in each direction."""

    round_trips: int
    bytes_sent: int
    bytes_received: int


@message(206)
@dataclass(frozen=True)
class Ready(Message):
    """Tell, relay to tracer, once: the agent runs. Ports of the full listeners on 127.0.0.1 and ::1 (0: no such family)."""

    listener4_port: int
    listener6_port: int


@message(207)
@dataclass(frozen=True)
class Lost(Message):
    """Tell, relay to tracer: the session is over and cannot be resumed; one line for the user."""

    reason: str


@message(208)
@dataclass(frozen=True)
class NotStarted(Message):
    """Tell, relay to tracer, instead of `Ready`: one line for the user with the remedy, and the tool's exit status."""

    reason: str
    exit_status: int
