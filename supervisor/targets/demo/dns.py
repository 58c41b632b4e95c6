"""The DNS of the demo's cluster: a fixed zone, answered over UDP and TCP (RFC 1035).

`answer` is bytes in, bytes out. What real clusters do and resolvers trip over is there on purpose: A and AAAA of one name,
an answer too long for UDP (TC, then TCP), SRV, a CNAME, NODATA next to NXDOMAIN, PTR.
"""

from __future__ import annotations

import socket
import struct

from . import network

A, CNAME, PTR, MX, TXT, AAAA, SRV, OPT = 1, 5, 12, 15, 16, 28, 33, 41
_CLASS_IN = 1
_TTL_S = 5
_UDP_LIMIT = 512
_FLAGS_ANSWER = 0x8580
_FLAG_TRUNCATED = 0x0200
_FORMERR, _NXDOMAIN, _NOTIMP = 1, 3, 4
_HEADER = struct.Struct(">HHHHHH")

_DOMAIN = "demo.svc.cluster.local"
Records = dict[str, list[tuple[int, bytes]]]


def encode_name(name: str) -> bytes:
    """A domain name as labels, uncompressed; the root is the empty string."""
    labels = [label.encode("ascii") for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def answer(query: bytes, limit: int = 65535) -> bytes:
    """The response to one query; empty for what is no query at all. More than `limit` bytes: header and question with TC."""
    if len(query) < _HEADER.size:
        return b""
    identity, flags, questions = _HEADER.unpack_from(query)[:3]
    if flags & 0x8000:
        return b""
    recursion = flags & 0x0100
    if flags & 0x7800:
        return _HEADER.pack(identity, 0x8000 | recursion | _NOTIMP, 0, 0, 0, 0)
    question = _question(query) if questions == 1 else None
    if question is None:
        return _HEADER.pack(identity, 0x8000 | recursion | _FORMERR, 0, 0, 0, 0)
    name, kind, end = question
    records, status = _look_up(name, kind)
    head = _FLAGS_ANSWER | recursion | status
    response = _HEADER.pack(identity, head, 1, len(records), 0, 0) + query[_HEADER.size : end] + b"".join(records)
    if len(response) > limit:
        return _HEADER.pack(identity, head | _FLAG_TRUNCATED, 1, 0, 0, 0) + query[_HEADER.size : end]
    return response


def udp_limit(query: bytes) -> int:
    """How long a UDP response may be: 512 bytes, or what the query's EDNS record (RFC 6891) allows."""
    question = _question(query) if len(query) >= _HEADER.size else None
    if question is None or _HEADER.unpack_from(query)[3:] != (0, 0, 1):
        return _UDP_LIMIT
    end = question[2]
    # The OPT record: root name, type, then the size in the place of a class.
    if len(query) < end + 11 or query[end] != 0 or struct.unpack_from(">H", query, end + 1)[0] != OPT:
        return _UDP_LIMIT
    return max(_UDP_LIMIT, int(struct.unpack_from(">H", query, end + 3)[0]))


# The one question of a query: lower-case name, type and where it ends; None if it is malformed.
def _question(query: bytes) -> tuple[str, int, int] | None:
    labels = []
    at = _HEADER.size
    while True:
        if at >= len(query):
            return None
        size = query[at]
        if size == 0:
            break
        if size > 63 or at + 1 + size > len(query):
            return None
        labels.append(query[at + 1 : at + 1 + size].decode("latin-1").lower())
        at += 1 + size
    if at + 5 > len(query):
        return None
    kind, question_class = struct.unpack_from(">HH", query, at + 1)
    return (".".join(labels), kind, at + 5) if question_class == _CLASS_IN else None


# Follows one CNAME. A name that exists without this type gives no records and no error (NODATA).
def _look_up(name: str, kind: int) -> tuple[list[bytes], int]:
    found = ZONE.get(name)
    if found is None:
        return [], _NXDOMAIN
    records = []
    for record_kind, content in found:
        if record_kind == CNAME:
            records.append(_record(name, CNAME, encode_name(content.decode())))
            if kind != CNAME:
                records += _look_up(content.decode(), kind)[0]
        elif record_kind == kind:
            records.append(_record(name, kind, content))
    return records, 0


def _record(name: str, kind: int, content: bytes) -> bytes:
    return encode_name(name) + struct.pack(">HHIH", kind, _CLASS_IN, _TTL_S, len(content)) + content


def _zone() -> Records:
    zone: Records = {}
    hosts = {
        f"greeter.{_DOMAIN}": network.GREETER,
        f"echo.{_DOMAIN}": network.ECHO,
        f"black-hole.{_DOMAIN}": network.BLACK_HOLE,
        f"unreachable.{_DOMAIN}": network.UNREACHABLE,
        f"demo-pod-0.pods.{_DOMAIN}": network.POD,
        "kubernetes.default.svc.cluster.local": network.API,
    }
    for name, (ipv4, ipv6) in hosts.items():
        zone[name] = [(A, socket.inet_aton(ipv4)), (AAAA, socket.inet_pton(socket.AF_INET6, ipv6))]
        reverse = ".".join(reversed(ipv4.split("."))) + ".in-addr.arpa"
        zone[reverse] = [(PTR, encode_name(name))]
    greeter = f"greeter.{_DOMAIN}"
    zone[greeter].append((TXT, _text(b"greets whoever asks")))
    zone[f"only-ipv4.{_DOMAIN}"] = [(A, socket.inet_aton(network.GREETER[0]))]
    zone[f"_http._tcp.{greeter}"] = [(SRV, struct.pack(">HHH", 0, 100, network.HTTP_PORT) + encode_name(greeter))]
    zone[f"mail.{_DOMAIN}"] = [(MX, struct.pack(">H", 10) + encode_name(greeter))]
    zone[f"alias.{_DOMAIN}"] = [(CNAME, greeter.encode())]
    # Too long for a UDP answer without EDNS, and for most sizes that EDNS asks for: the resolver has to come back by TCP.
    zone[f"long.{_DOMAIN}"] = [(TXT, _text(b"%03d " % number + b"x" * 200)) for number in range(40)]
    zone[f"long.{_DOMAIN}"] += [(A, socket.inet_aton(f"10.96.7.{number}")) for number in range(1, 101)]
    return zone


def _text(content: bytes) -> bytes:
    return bytes([len(content)]) + content


ZONE = _zone()
