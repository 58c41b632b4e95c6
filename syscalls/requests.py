"""What handlers ask of the relay: the messages of the link between tracer and relay that the agent never sees.

`OpenFile` and the other agent requests go over the same link; the relay passes them on. Its replies to `OpenFile`
bring an fd: the relay puts the content into a sealed memfd (or an unlinked file, if large) and sends that, with
`Opened.content` empty.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..agent.wire.messages import ANYWHERE, Address, FileStat, Message, message


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


# -- the mounted pod tree (supervisor/fuse) -------------------------------------------------------------------------


@message(260)
@dataclass(frozen=True)
class Mounted(Message):
    """Tell, with one fd, before `Ready`: the pod's tree is mounted. The fd is O_PATH of its root directory.

    `device`: st_dev of all its files. Without this message files are copied (`OpenFile`); `NotMounted` says why.
    """

    device: int


@message(261)
@dataclass(frozen=True)
class NotMounted(Message):
    """Tell, before `Ready`: the pod's tree could not be mounted; `reason` is for the user, with its remedy."""

    reason: str


@message(262)
@dataclass(frozen=True)
class StatPath(Message):
    """Ask, mounted tree only: stat(2), or lstat(2) if not `follow`, of a pod path. Reply: `PathStat`.

    `fresh`: nothing that is known already will do (AT_STATX_FORCE_SYNC).
    """

    path: bytes
    follow: bool
    fresh: bool = False


@message(263)
@dataclass(frozen=True)
class PathStat(Message):
    """Reply to `StatPath`. `errno` 0: `stat`, with st_dev and st_ino as the mounted tree shows them (`stat.dev` is `device`).

    Good for `valid_ms` unless the shared generation counter (supervisor/fuse/generation.py) is no longer `generation`.
    So are `stats` (packed, wire/stats.py), the lstat(2) of other `names` of the same directory, with a NUL between two.
    `no_xattrs`: it is known to have no extended attributes; `bare`: a byte for each of `names` that says the same.
    """

    errno: int
    stat: FileStat
    valid_ms: int
    generation: int
    no_xattrs: bool = False
    names: bytes = b""
    stats: bytes = b""
    bare: bytes = b""


@message(264)
@dataclass(frozen=True)
class Foretell(Message):
    """Tell, mounted tree only: the tracee's kernel is about to look up `path`, so ask the pod for all of it at once.

    `content`: it will be opened for reading; `directory`: it will be listed. Without this every name on the way would cost
    a round trip.
    """

    path: bytes
    follow: bool
    content: bool
    directory: bool


@message(265)
@dataclass(frozen=True)
class ReadHead(Message):
    """Ask, mounted tree only: what execve(2) looks at of the pod's `path` (links followed). Reply: `Head`, or Failed(errno).

    Failed with what execve(2) would say of the file: ENOENT, ENOTDIR, ELOOP; EACCES if it is no regular file or has no x bit.
    """

    path: bytes


@message(266)
@dataclass(frozen=True)
class Head(Message):
    """Reply to `ReadHead`: the file's first bytes, up to 4 KiB (256 are needed), and its PT_INTERP if it is an ELF file.

    `interpreter`: without the NUL; empty if there is none. `errno`: as a Failed, if not 0.
    """

    errno: int
    head: bytes
    interpreter: bytes


@message(267)
@dataclass(frozen=True)
class WatchTree(Message):
    """Ask, mounted tree only: inotify_add_watch(2) of a pod path is about to be run; what happens there in the pod is to be
    seen.

    Reply: `Done`, or Failed(errno).
    """

    path: bytes
    follow: bool


@message(268)
@dataclass(frozen=True)
class GiveUpFor(Message):
    """Tell, mounted tree only: a thread that waits for the tree shall wait no longer: what it has asked for fails with EINTR.

    Said of threads by whose own signals that is not to be seen (notify/driver.py).
    """

    tid: int
