"""The control messages of the protocol: one frozen dataclass each, numbered for the wire.

A request is answered by exactly one reply carrying the request's id: its own reply type, `Done`, or `Failed`. A
notice is not answered. Field types are limited to what the codec validates: int, bytes, str, bool, tuples of these,
and other message-less value classes registered with `value` (`Address`, `FileStat`).

Paths, names and environment entries are bytes: Linux gives them no encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from .values import ANYWHERE, MESSAGES, Address, FileStat, Message, message

# With the messages themselves, which have no need to be listed.
__all__ = ["ANYWHERE", "MESSAGES", "Address", "FileStat", "Message", "message"]

# -- replies of general use -----------------------------------------------------------------------------------------


@message(1)
@dataclass(frozen=True)
class Done(Message):
    """The request was carried out; there is nothing else to say."""


@message(2)
@dataclass(frozen=True)
class Failed(Message):
    """The request failed and had no side effect. `errno` is the pod kernel's; `text` is for people, may be empty."""

    errno: int
    text: str = ""


@message(3)
@dataclass(frozen=True)
class Bye(Message):
    """Notice: the sender ends the session in order. The agent gives everything back and exits."""

    reason: str = ""


@message(4)
@dataclass(frozen=True)
class Log(Message):
    """Notice, agent to client: one line for the user's log. `level` as in logging (10 debug … 40 error)."""

    level: int
    text: str


# -- the pod --------------------------------------------------------------------------------------------------------


@message(10)
@dataclass(frozen=True)
class GetPod(Message):
    """Ask for what the supervisor needs before it starts the program. Reply: `Pod`."""


@message(11)
@dataclass(frozen=True)
class Pod(Message):
    """The target container: environ(7) entries, hostname, command line, cwd, and the pod's own IP addresses (packed).

    `volumes`: paths at which volumes are mounted.
    """

    environ: Tuple[bytes, ...]
    hostname: bytes
    arguments: Tuple[bytes, ...]
    working_directory: bytes
    addresses: Tuple[bytes, ...]
    volumes: Tuple[bytes, ...] = ()


# -- files ----------------------------------------------------------------------------------------------------------


@message(20)
@dataclass(frozen=True)
class Stat(Message):
    """stat(2), lstat(2) of an absolute pod path. Reply: `Attributes`."""

    path: bytes
    follow: bool


@message(21)
@dataclass(frozen=True)
class Attributes(Message):
    """Reply to `Stat`."""

    stat: FileStat


@message(22)
@dataclass(frozen=True)
class Access(Message):
    """faccessat2(2) of an absolute pod path; `mode` is F_OK or a mask of R_OK, W_OK, X_OK. Reply: `Done`."""

    path: bytes
    mode: int
    follow: bool


@message(23)
@dataclass(frozen=True)
class ReadLink(Message):
    """readlink(2) of an absolute pod path. Reply: `LinkTarget`."""

    path: bytes


@message(24)
@dataclass(frozen=True)
class LinkTarget(Message):
    """Reply to `ReadLink`."""

    target: bytes


@message(25)
@dataclass(frozen=True)
class OpenFile(Message):
    """open(2) for reading of an absolute pod path.

    `flags` are O_DIRECTORY, O_NOFOLLOW and O_PATH with the numbers of x86-64, whatever the two machines are (some
    differ on aarch64); other bits mean nothing. A regular file of up to `inline_limit` bytes comes whole in
    `Opened.content`; of a larger one the content follows on stream `stream` (numbered by the client, unused
    otherwise), ended by EOF. Reply: `Opened` or `OpenedDirectory`.
    """

    path: bytes
    flags: int
    inline_limit: int
    stream: int


@message(26)
@dataclass(frozen=True)
class Opened(Message):
    """Reply to `OpenFile`: `follows` says that `content` is empty and the bytes come on the request's stream."""

    stat: FileStat
    content: bytes
    follows: bool


@message(27)
@dataclass(frozen=True)
class OpenedDirectory(Message):
    """Reply to `OpenFile` of a directory: parallel tuples, "." and ".." included; types are getdents64's DT_*."""

    stat: FileStat
    names: Tuple[bytes, ...]
    inodes: Tuple[int, ...]
    types: Tuple[int, ...]


# -- outgoing network -----------------------------------------------------------------------------------------------


@message(40)
@dataclass(frozen=True)
class ConnectTcp(Message):
    """connect(2) from the pod. On success stream `stream` carries the connection. Reply: `Connected`.

    `source` is what the client's program has bound its socket to: zeros and port 0 leave the choice to the pod's kernel.
    Its port is insisted on if `is_port_firm`, else only taken if free. `options` are (level, name, value) triples of
    setsockopt(2), one after the other, with Linux's numbers; the agent takes those it knows and ignores the rest.
    """

    stream: int
    peer: Address
    source: Address = ANYWHERE
    is_port_firm: bool = False
    options: Tuple[int, ...] = ()


@message(41)
@dataclass(frozen=True)
class Connected(Message):
    """Reply to `ConnectTcp`: the pod socket's own address and its peer's."""

    local: Address
    peer: Address


@message(42)
@dataclass(frozen=True)
class OpenUdp(Message):
    """socket(2) SOCK_DGRAM in the pod; `family` is 4 or 6; `port` is the source port if it is free there (0: any).

    Each DATA frame of the stream is one datagram with its peer in front (see `pack_datagram` in this package).
    Reply: `UdpOpened`.
    """

    stream: int
    family: int
    port: int


@message(43)
@dataclass(frozen=True)
class UdpOpened(Message):
    """Reply to `OpenUdp`: the pod socket's own address."""

    local: Address


@message(44)
@dataclass(frozen=True)
class ConnectUnix(Message):
    """connect(2) to a unix socket of the pod; `path` as in sun_path (abstract names begin with NUL).

    `kind` is SOCK_STREAM (1), SOCK_DGRAM (2) or SOCK_SEQPACKET (5). On success stream `stream` carries the connection:
    bytes, or for the other two kinds messages (see README.md of this package). A datagram socket gets a name, so that it
    can be answered. While the listener's backlog is full the agent tries again for `patience_ms`, then the errno is
    EAGAIN. Reply: `UnixConnected`.
    """

    stream: int
    path: bytes
    kind: int
    patience_ms: int


@message(45)
@dataclass(frozen=True)
class OpenPing(Message):
    """icmp(7): socket(2) SOCK_DGRAM for ICMP echo in the pod; `family` is 4 or 6.

    DATA frames as for `OpenUdp`, the port being 0. Reply: `UdpOpened`, the port being the identifier of the echoes.
    """

    stream: int
    family: int


@message(46)
@dataclass(frozen=True)
class DatagramFailed(Message):
    """Notice, agent to client: the pod's kernel reports `errno` for what was sent to `peer` on a datagram stream.

    Such reports come of ICMP (ECONNREFUSED, EHOSTUNREACH) or of sendto(2) itself (EMSGSIZE, ENETUNREACH).
    """

    stream: int
    peer: Address
    errno: int


@message(47)
@dataclass(frozen=True)
class AskRoutes(Message):
    """rtnetlink(7): a request of the RTM_GET kind, whole with its header, for the pod's network. Reply: `RouteReplies`."""

    request: bytes


@message(48)
@dataclass(frozen=True)
class RouteReplies(Message):
    """Reply to `AskRoutes`: the kernel's datagrams up to and with its last (NLMSG_DONE, NLMSG_ERROR or a single message)."""

    datagrams: Tuple[bytes, ...]


@message(60)
@dataclass(frozen=True)
class UnixConnected(Message):
    """Reply to `ConnectUnix`: the peer's name as getpeername(2) gives it in the pod, as in sun_path."""

    peer: bytes


@message(70)
@dataclass(frozen=True)
class GiveUpConnect(Message):
    """Notice, client to agent: nobody wants the connection of the `ConnectTcp` with this stream any more.

    If still unanswered, that is answered `Failed(ECANCELED)`. The client resets the stream as well.
    """

    stream: int


@message(71)
@dataclass(frozen=True)
class Urgent(Message):
    """Notice, both ways: urgent data (tcp(7), MSG_OOB) on a stream that carries a TCP connection.

    `byte` stands behind `position` bytes of DATA and is none of them. Who is past that place passes it on at once.
    """

    stream: int
    position: int
    byte: int


# -- incoming network -----------------------------------------------------------------------------------------------


@message(53)
@dataclass(frozen=True)
class Subscribe(Message):
    """From now on new TCP connections to this pod port come to the client, as `Incoming`.

    `mirror`: the pod's container goes on serving it, and the client gets a copy. `rules` is the JSON text described in
    README.md of this package ("" for none): which requests, how many, TLS. `flush`: reset the connections to the port
    that the pod's container has now. Reply: `Done`; `Failed` with EADDRINUSE says in its text who holds the port.
    """

    port: int
    mirror: bool
    rules: str
    flush: bool


@message(54)
@dataclass(frozen=True)
class Unsubscribe(Message):
    """The pod's own container alone serves this port again; connections already handed over live on. Reply: `Done`."""

    port: int


@message(55)
@dataclass(frozen=True)
class SubscribeUdp(Message):
    """From now on datagrams to this pod port come to the client, on stream `stream` (numbered by the client).

    Framed as for `OpenUdp`, both ways. `mirror` as in `Subscribe`: what the client sends is dropped then. The end of
    the stream gives the port back. Reply: `Done`; `Failed` as for `Subscribe`.
    """

    port: int
    mirror: bool
    stream: int


@message(52)
@dataclass(frozen=True)
class Incoming(Message):
    """Notice, agent to client: a connection for a subscribed port, on stream `stream` (numbered by the agent)."""

    stream: int
    port: int
    peer: Address
    local: Address
