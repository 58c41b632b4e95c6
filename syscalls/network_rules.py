"""Which traffic leaves from the pod: mirrord's `feature.network.outgoing`, as pure functions of addresses.

An IPv4-mapped IPv6 address (::ffff:a.b.c.d) is the IPv4 address it holds. Linux takes connect(2) to 0.0.0.0 or :: as
one to loopback, and so do the rules.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Container
from dataclasses import dataclass

from ..agent.wire.messages import Address
from .actions import Decision, Reason, Route
from .name_rules import NameRule, NameRuleError, parse_name_rule

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DNS_PORT = 53
_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
ANY_IP = (bytes(4), bytes(16))


class FilterError(ValueError):
    """An entry of `feature.network.outgoing.filter` that cannot be understood."""


@dataclass(frozen=True)
class AddressRule:
    """One filter entry: `[tcp://|udp://|any://][IP | CIDR | name][:port]`. `None` and port 0 mean any.

    A name (see name_rules) means the addresses that the program has found by it.
    """

    protocol: str | None = None
    network: Network | None = None
    name: NameRule | None = None
    port: int = 0

    def matches(self, protocol: str, ip: bytes, port: int, names: Collection[str] = ()) -> bool:
        """Whether traffic to `ip` (packed, not IPv4-mapped) and `port` is meant; `names`: what `ip` was found by."""
        if self.protocol not in (None, protocol) or self.port not in (0, port):
            return False
        if self.name is not None:
            return self.name.matches(names)
        network = self.network
        if network is None:
            return True
        if network.version != (4 if len(ip) == 4 else 6):
            return False
        mask = int(network.netmask)
        return int.from_bytes(ip, "big") & mask == int(network.network_address)


def parse_rule(text: str) -> AddressRule:
    """Parse one filter entry; IPv6 in brackets if a port follows. Raises FilterError."""
    protocol, separator, rest = text.rpartition("://")
    protocol = protocol.lower()
    if separator and protocol not in ("tcp", "udp", "any"):
        raise FilterError(f"{text!r}: the protocol must be tcp, udp or any")
    host, port = _split_port(text, rest)
    only = None if protocol in ("", "any") else protocol
    if not host:
        if not separator and not rest:
            raise FilterError("an empty entry matches nothing")
        return AddressRule(only, port=port)
    network = _network(host)
    if network is None:
        try:
            return AddressRule(only, None, parse_name_rule(host), port)
        except NameRuleError:
            raise FilterError(f"{text!r}: neither an IP address, a subnet nor a name") from None
    if network.network_address.is_unspecified and network.prefixlen in (0, network.max_prefixlen):
        # mirrord: 0.0.0.0 means any address. /0 keeps to its own family.
        return AddressRule(only, network if network.prefixlen == 0 else None, port=port)
    return AddressRule(only, network, port=port)


# "[v6]:80", "[v6]/64:80", "[v6/64]:80", "v6" (no port), "host:80", ":80", "host" -> host with its prefix, and port.
def _split_port(text: str, rest: str) -> tuple[str, int]:
    if rest.startswith("["):
        inside, bracket, tail = rest[1:].partition("]")
        prefix, colon, port = tail.partition(":")
        if not bracket or (prefix and not prefix.startswith("/")):
            raise FilterError(f"{text!r}: brackets must hold an IPv6 address")
        host = inside + prefix
    elif rest.count(":") > 1:
        host, colon, port = rest, "", ""
    else:
        host, colon, port = rest.partition(":")
    if colon and not (port.isascii() and port.isdecimal() and int(port[:6]) <= 65535 and len(port) <= 5):
        raise FilterError(f"{text!r}: the port must be a number up to 65535")
    return host, int(port) if colon else 0


def _network(host: str) -> Network | None:
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network((mapped, network.prefixlen - 96), strict=False)
    return network


@dataclass(frozen=True)
class OutgoingConfig:
    """`feature.network.outgoing`. At most one of the two filters is not None."""

    tcp: bool = True
    udp: bool = True
    ignore_localhost: bool = False
    only_remote: tuple[AddressRule, ...] | None = None
    only_local: tuple[AddressRule, ...] | None = None

    @property
    def wants_names(self) -> bool:
        """Whether it matters by which names an address was found."""
        return any(rule.name is not None for rule in (*(self.only_remote or ()), *(self.only_local or ())))


def plain_ip(ip: bytes) -> bytes:
    """The IPv4 address inside an IPv4-mapped IPv6 one, any other address as it is."""
    return ip[12:] if len(ip) == 16 and ip.startswith(_MAPPED_PREFIX) else ip


def is_loopback(ip: bytes) -> bool:
    """Whether a packed address (not IPv4-mapped) never leaves the machine it is used on."""
    return ip[0] == 127 if len(ip) == 4 else ip == b"\0" * 15 + b"\1"


_LOCAL = {reason: Decision(Route.LOCAL, reason) for reason in Reason}
_OUTGOING = Decision(Route.REMOTE, Reason.OUTGOING)
_FILTERED_IN = Decision(Route.REMOTE, Reason.OUTGOING_FILTER)
_DNS = Decision(Route.REMOTE, Reason.DNS)


def decide_outgoing(
    config: OutgoingConfig,
    *,
    dns: bool,
    ipv6: bool,
    protocol: str,
    peer: Address,
    own_ports: Container[int],
    names: Collection[str] = (),
) -> Decision:
    """connect(2), sendto(2): where traffic to `peer` leaves from. `names`: by which it was found. `protocol`: also "icmp".

    Port 53 follows `dns` before any filter: the program asks the name servers of the pod's resolv.conf, which only
    the pod can reach (or, with dns off, those of this machine's).
    """
    ip = plain_ip(peer.ip)
    loopback = is_loopback(ip) or ip in ANY_IP
    if loopback and peer.port in own_ports:
        return _LOCAL[Reason.OWN_LISTENER]
    if peer.port == DNS_PORT:
        return _DNS if dns else _LOCAL[Reason.DNS_OFF]
    if not (config.tcp if protocol == "tcp" else config.udp) or (len(ip) == 16 and not ipv6):
        return _LOCAL[Reason.OUTGOING_OFF]
    if loopback and config.ignore_localhost:
        return _LOCAL[Reason.IGNORE_LOCALHOST]
    if config.only_remote is not None:
        wanted = any(rule.matches(protocol, ip, peer.port, names) for rule in config.only_remote)
        return _FILTERED_IN if wanted else _LOCAL[Reason.OUTGOING_FILTER]
    if config.only_local is not None and any(rule.matches(protocol, ip, peer.port, names) for rule in config.only_local):
        return _LOCAL[Reason.OUTGOING_FILTER]
    return _OUTGOING
