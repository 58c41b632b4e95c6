"""nftables(8) by netlink: the redirect of subscribed ports, without an nft binary.

One table of our own for each layer (see incoming/layers.py) holds a set of ports and two nat chains (traffic from other
pods comes by prerouting, traffic from inside the pod by output). Taking a port adds an element to the set; that is atomic
and touches nobody else's rules.

- The table is owned by our netlink socket (NFT_TABLE_F_OWNER, Linux 5.12): when the process dies, in whatever way, the
  kernel removes it. Older kernels get elements with a time-out that `refresh` renews: a dead agent's redirect
  ends by itself, within `EXPIRY_S`.
- The chains and their rules stay for as long as the table does, stolen ports or not: with the last of them gone the
  kernel would stop tracking and translating the connections that were handed over before.
- inet tables cannot do nat before Linux 5.2: there one table for each family does it.
- Priority -99 and up, just after everybody else's destination nat: with a service mesh the sidecar keeps its redirect of
  outside traffic, and what it passes on to the application over loopback is what is stolen.
- The order of a layer is part of its priority, and of the mark (SO_MARK) on what it passes on. nat chains of all tables are
  asked in order of priority until one translates; a layer leaves alone what carries its own mark or a later one. So a
  connection goes through the layers once each, in order, and never in a circle.
- Packets for a foreign address that merely pass through this namespace are never touched (fib, oif lo).
"""

from __future__ import annotations

import errno
import os
import struct
from typing import Iterable, List, Sequence, Tuple

from .netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    Netlink,
    attribute,
    attributes,
    long_number,
    nest,
    number,
    text,
)

FIRST_MARK = 0x3000
AGENT_MARK = 0x307F
"""SO_MARK of what no layer is to take: connections that the client makes in the pod. FIRST_MARK + N is that of what layer N
passes on. None of the bits that kube-proxy, Calico, Cilium, Istio or the CNI of AWS give a meaning."""

MOST_LAYERS = AGENT_MARK - FIRST_MARK
TCP, UDP = 6, 17

EXPIRY_S = 30
"""On kernels without table owners: how long a port stays redirected when nobody calls `refresh`."""

NFPROTO_INET = 1
NFPROTO_IPV4 = 2
NFPROTO_IPV6 = 10

Batch = List[Tuple[int, int, bytes]]

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _GETTABLE, _DELTABLE = (_SUBSYSTEM << 8 | n for n in (0, 1, 2))
_NEWCHAIN = _SUBSYSTEM << 8 | 3
_NEWRULE = _SUBSYSTEM << 8 | 6
_NEWSET = _SUBSYSTEM << 8 | 9
_NEWSETELEM, _DELSETELEM = _SUBSYSTEM << 8 | 12, _SUBSYSTEM << 8 | 14

_TABLE_NAME, _TABLE_FLAGS = 1, 2
_TABLE_F_OWNER = 2
_SET = "ports"
_SET_F_TIMEOUT = 0x10
_TYPE_INET_SERVICE = 13

_FIRST_PRIORITY = -99
_HOOK_PREROUTING, _HOOK_OUTPUT = 0, 3
_REGISTER = 1
_META_MARK, _META_OIF, _META_L4PROTO = 3, 5, 16
_CMP_EQ = 0
_TRANSPORT_HEADER, _DESTINATION_PORT_OFFSET = 2, 2
_TCP_FLAGS_OFFSET, _TCP_FLAGS_MASK, _TCP_SYN = 13, 0x17, 0x02
_FIB_RESULT_ADDRTYPE, _FIB_DADDR, _RTN_LOCAL = 3, 2, 2
_BYTEORDER_HTON, _RANGE_NEQ = 1, 1
_LOOPBACK_INDEX = 1


class NftRedirect:
    """TCP connections (or datagrams) to a changing set of ports of this network namespace come to `listener_port` instead.

    `layer` is its number in the order of layers. OSError: EPERM without CAP_NET_ADMIN; anything else: this kernel cannot
    do it.
    """

    def __init__(
        self,
        name: str,
        listener_port: int,
        layer: int,
        protocol: int = TCP,
        *,
        use_owner: bool = True,
        use_inet: bool = True,
    ) -> None:
        self.name = name
        self._layer = layer
        self._protocol = protocol
        self._listener_port = listener_port
        self._ports: List[int] = []
        self._netlink = Netlink(NETLINK_NETFILTER)
        try:
            self._install(use_owner, use_inet)
        except BaseException:
            self._netlink.close()
            raise

    @property
    def refresh_s(self) -> float:
        """Seconds within which `refresh` must be called again; 0: never."""
        return 0.0 if self.owned else EXPIRY_S / 3

    def add(self, port: int) -> None:
        """Redirect new connections to `port`."""
        self._commit(self._elements(_NEWSETELEM, [port]))
        self._ports.append(port)

    def remove(self, port: int) -> None:
        """Leave new connections to `port` alone again. Those already redirected stay so."""
        self._ports.remove(port)
        try:
            self._commit(self._elements(_DELSETELEM, [port]))
        except OSError as error:
            if error.errno != errno.ENOENT:  # it has timed out
                raise

    def refresh(self) -> None:
        """Start the time-outs anew. Only a new element gets a new time-out, so each is replaced, in one transaction."""
        if not self._ports:
            return
        try:
            self._commit(self._elements(_DELSETELEM, self._ports) + self._elements(_NEWSETELEM, self._ports))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            self._commit(self._elements(_NEWSETELEM, self._ports))

    def close(self) -> None:
        """Remove the table."""
        try:
            self._commit([_message(_DELTABLE, 0, family, text(_TABLE_NAME, self.name)) for family in self.families])
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        finally:
            self._netlink.close()

    # From the best to the plainest: what an older kernel does not know it refuses, and nothing of that batch is kept.
    def _install(self, use_owner: bool, use_inet: bool) -> None:
        family_sets: List[Sequence[int]] = [(NFPROTO_INET,)] if use_inet else []
        family_sets += [(NFPROTO_IPV4, NFPROTO_IPV6), (NFPROTO_IPV4,)]
        failure = OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        for families in family_sets:
            for owned in (True, False) if use_owner else (False,):
                self.families, self.owned = families, owned
                try:
                    self._commit([each for family in families for each in self._skeleton(family)])
                    return
                except OSError as error:
                    if error.errno == errno.EPERM:
                        raise
                    failure = error
        raise failure

    def _skeleton(self, family: int) -> Batch:
        flags = _TABLE_F_OWNER if self.owned else 0
        create = NLM_F_CREATE | NLM_F_EXCL
        ports = text(1, self.name) + text(2, _SET) + number(3, 0 if self.owned else _SET_F_TIMEOUT)
        ports += number(4, _TYPE_INET_SERVICE) + number(5, 2) + number(10, 1)
        from_outside = _fib_is_local()
        from_inside = _meta(_META_OIF) + _compare(_CMP_EQ, struct.pack("=I", _LOOPBACK_INDEX))
        return [
            _message(_NEWTABLE, create, family, text(_TABLE_NAME, self.name) + number(_TABLE_FLAGS, flags)),
            _message(_NEWSET, create, family, ports),
            _message(_NEWCHAIN, create, family, self._chain("prerouting", _HOOK_PREROUTING)),
            _message(_NEWCHAIN, create, family, self._chain("output", _HOOK_OUTPUT)),
            _message(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, family, self._rule("prerouting", from_outside)),
            _message(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, family, self._rule("output", from_inside)),
        ]

    def _chain(self, name: str, hook: int) -> bytes:
        where = nest(4, number(1, hook), number(2, (_FIRST_PRIORITY + self._layer) & 0xFFFFFFFF))
        return text(1, self.name) + text(3, name) + where + text(7, "nat")

    def _rule(self, chain: str, condition: bytes) -> bytes:
        listener = nest(1, attribute(1, struct.pack("!H", self._listener_port)))[4:]
        expressions = (
            _meta(_META_L4PROTO)
            + _compare(_CMP_EQ, bytes([self._protocol]))
            + _mark_is_not_within(FIRST_MARK + self._layer, AGENT_MARK)
            + condition
            + (_is_first_packet() if self._protocol == TCP else b"")
            + _transport_header(_DESTINATION_PORT_OFFSET, 2)
            + _expression("lookup", text(1, _SET) + number(2, _REGISTER) + number(4, 1))
            + _expression("immediate", number(1, _REGISTER) + nest(2, listener))
            + _expression("redir", number(1, _REGISTER))
        )
        return text(1, self.name) + text(2, chain) + nest(4, expressions)

    def _elements(self, kind: int, ports: Iterable[int]) -> Batch:
        timeout = b"" if self.owned or kind == _DELSETELEM else long_number(4, EXPIRY_S * 1000)
        elements = [nest(1, nest(1, attribute(1, struct.pack("!H", port))), timeout) for port in ports]
        payload = text(1, self.name) + text(2, _SET) + nest(3, *elements)
        flags = NLM_F_CREATE if kind == _NEWSETELEM else 0
        return [_message(kind, flags, family, payload) for family in self.families]

    def _commit(self, messages: Batch) -> None:
        _commit(self._netlink, messages)


def tables(prefix: str) -> List[Tuple[int, str]]:
    """(family, name) of the tables of this network namespace whose name starts with `prefix`."""
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        answers = netlink.exchange([_message(_GETTABLE, NLM_F_DUMP, 0, b"")])
    finally:
        netlink.close()
    found = []
    for answer in answers:
        if answer.type == _NEWTABLE:
            name = attributes(answer.payload[4:])[_TABLE_NAME].rstrip(b"\0").decode()
            if name.startswith(prefix):
                found.append((answer.payload[0], name))
    return found


def remove_table(family: int, name: str) -> None:
    """Remove a table that a dead agent left behind. One that is gone by now is no error."""
    netlink = Netlink(NETLINK_NETFILTER)
    try:
        _commit(netlink, [_message(_DELTABLE, 0, family, text(_TABLE_NAME, name))])
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    finally:
        netlink.close()


def _commit(netlink: Netlink, messages: Batch) -> None:
    border = struct.pack("!BBH", 0, 0, _SUBSYSTEM)
    netlink.exchange([(_BATCH_BEGIN, 0, border), *messages, (_BATCH_END, 0, border)])


def _message(kind: int, flags: int, family: int, payload: bytes) -> Tuple[int, int, bytes]:
    return kind, flags, struct.pack("!BBH", family, 0, 0) + payload


def _expression(name: str, payload: bytes) -> bytes:
    return nest(1, text(1, name), nest(2, payload))


def _meta(key: int) -> bytes:
    return _expression("meta", number(1, _REGISTER) + number(2, key))


def _compare(operator: int, value: bytes) -> bytes:
    return _expression("cmp", number(1, _REGISTER) + number(2, operator) + nest(3, attribute(1, value)))


# Ranges are compared byte by byte, so the mark has to be in network order.
def _mark_is_not_within(first: int, last: int) -> bytes:
    swap = number(1, _REGISTER) + number(2, _REGISTER) + number(3, _BYTEORDER_HTON) + number(4, 4) + number(5, 4)
    limits = nest(3, attribute(1, struct.pack("!I", first))) + nest(4, attribute(1, struct.pack("!I", last)))
    outside = number(1, _REGISTER) + number(2, _RANGE_NEQ) + limits
    return _meta(_META_MARK) + _expression("byteorder", swap) + _expression("range", outside)


def _transport_header(offset: int, size_bytes: int) -> bytes:
    where = number(1, _REGISTER) + number(2, _TRANSPORT_HEADER) + number(3, offset) + number(4, size_bytes)
    return _expression("payload", where)


# Conntrack takes up connections in their midst, those from before it was switched on by this very rule, and shows them to
# the nat chains as new. Redirecting them would end them.
def _is_first_packet() -> bytes:
    mask, zero = nest(4, attribute(1, bytes([_TCP_FLAGS_MASK]))), nest(5, attribute(1, b"\0"))
    only = _expression("bitwise", number(1, _REGISTER) + number(2, _REGISTER) + number(3, 1) + mask + zero)
    return _transport_header(_TCP_FLAGS_OFFSET, 1) + only + _compare(_CMP_EQ, bytes([_TCP_SYN]))


def _fib_is_local() -> bytes:
    result = number(1, _REGISTER) + number(2, _FIB_RESULT_ADDRTYPE) + number(3, _FIB_DADDR)
    return _expression("fib", result) + _compare(_CMP_EQ, struct.pack("=I", _RTN_LOCAL))
