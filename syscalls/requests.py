"""What handlers ask of the relay: the messages of the link between tracer and relay that the agent never sees.

`OpenFile` and the other agent requests go over the same link; the relay passes them on. Its replies to `OpenFile`
bring an fd: the relay puts the content into a sealed memfd (or an unlinked file, if large) and sends that, with
`Opened.content` empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..agent.wire.messages import ANYWHERE, Address, Message, message


@message(200)
@dataclass(frozen=True)
class StartConnect(Message):
    """Tell: connect from the pod to `peer` for the tracee's TCP socket known as `key`.

    The tracee's socket is bound to `local` and its connect(2) is or will be in SYN_SENT towards the relay's full
    listener of `local`'s family. The relay sends a `Verdict`, then settles the socket by simultaneous open. `cookie` is the
    socket's SO_COOKIE (0: not known): no other socket that may come to have its port is ever touched. `source`,
    `is_port_firm` and `options` as in `ConnectTcp`.
    """

    key: int
    peer: Address
    local: Address
    cookie: int = 0
    source: Address = ANYWHERE
    is_port_firm: bool = False
    options: tuple[int, ...] = ()


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
    it. All peers of one `key` share one socket in the pod. `family` is the tracee socket's, 4 or 6; `port` the source
    port that the program has asked for (0: any). `echo`: what goes over it are ICMP echo messages (port 0).
    """

    key: int
    family: int
    peer: Address
    port: int = 0
    echo: bool = False


@message(230)
@dataclass(frozen=True)
class PeerRefused(Message):
    """Tell, relay to tracer: the pod's network refuses datagrams to `peer`; its loopback socket has been closed."""

    key: int
    peer: Address


@message(231)
@dataclass(frozen=True)
class NamesLearnt(Message):
    """Tell, relay to tracer, before the program gets the answer: these names (canonical) lead to these addresses."""

    names: tuple[str, ...]
    ips: tuple[bytes, ...]
    ttl_s: int


@message(232)
@dataclass(frozen=True)
class ProbePing(Message):
    """Ask: does the pod allow ICMP echo sockets of `family` (4 or 6)? Reply: Done or Failed(errno)."""

    family: int


@message(203)
@dataclass(frozen=True)
class Listen(Message):
    """Ask: the tracee listens on `local` (a socket with inode `inode` in /proc/net/tcp{,6}); subscribe pod port `port`.

    `mirror`, `rules`, `flush` as in `Subscribe`. `multipath`: the inode may differ, so the port tells whether it is there.
    Reply: Done or Failed(errno). The relay watches the listener and gives the port back when it is gone.
    """

    inode: int
    local: Address
    port: int
    multipath: bool
    mirror: bool
    rules: str
    flush: bool


@message(210)
@dataclass(frozen=True)
class ReceiveUdp(Message):
    """Ask: the tracee has bound a UDP socket (inode `inode` in /proc/net/udp{,6}) to `local`; subscribe pod port `port`.

    `mirror` as in `SubscribeUdp`. Each peer that sends to the pod's port is stood for by a loopback socket of the relay,
    which the address table names. Reply: Done or Failed(errno). The port is given back when the socket is gone.
    """

    inode: int
    local: Address
    port: int
    mirror: bool


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
    routes_port: int = 0
    """nl_pid of the relay's netlink socket for `RouteSocket`; 0: this machine has none."""


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


@message(240)
@dataclass(frozen=True)
class OpenUnix(Message):
    """Ask: connect a socket of the pod to its unix socket `path`, which is of kind `kind` (as in `ConnectUnix`).

    Reply: `UnixOpened`, after which `JoinUnix` must follow soon, or Failed(errno).
    """

    path: bytes
    kind: int
    patience_ms: int


@message(241)
@dataclass(frozen=True)
class UnixOpened(Message):
    """Reply to `OpenUnix`: the stream that carries the connection, and the peer's name as in sun_path."""

    stream: int
    peer: bytes


@message(242)
@dataclass(frozen=True)
class JoinUnix(Message):
    """Tell, with one fd: the socket to be joined to `stream`; without an fd the stream is not wanted any more.

    The fd is the accepted end of the tracee's connection, or a datagram socket that stands for the peer towards the
    tracee's socket with inode `inode`, and lives as long as that.
    """

    stream: int
    inode: int


@message(220)
@dataclass(frozen=True)
class EndConnect(Message):
    """Ask or tell: nobody wants the outcome of `StartConnect` `key` any more. Reply to an ask: Done.

    After the reply the relay will not touch the tracee's socket on behalf of `key`. What is connected already stays.
    """

    key: int


@message(248)
@dataclass(frozen=True)
class AwaitRoutes(Message):
    """Ask: reply when all that the tracee's netlink socket has asked is answered, or its buffer is full. Reply: `Done`."""

    netlink_port: int


@message(249)
@dataclass(frozen=True)
class RouteSocket(Message):
    """Tell: the tracee's netlink socket with the port id `netlink_port` asks about the pod's interfaces and routes.

    It is connected to the relay's netlink socket (`Ready.routes_port`). Answers carry `known_as` as the socket's port.
    """

    netlink_port: int
    known_as: int
