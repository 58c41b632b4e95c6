"""Name queries and answers for the tests of what reads them."""

from __future__ import annotations

import struct

from mirrord_trace.supervisor.targets.demo import dns

DOMAIN = "demo.svc.cluster.local"
GREETER4 = bytes((10, 96, 0, 20))
GREETER = f"greeter.{DOMAIN}"


def query(name: str, kind: int = dns.A, *, id: int = 7, flags: int = 0x0100, edns: int = 0) -> bytes:
    """A query; `edns` is the size that its OPT record tells."""
    opt = b"\0" + struct.pack(">HHIH", dns.OPT, edns, 0, 0) if edns else b""
    head = struct.pack(">HHHHHH", id, flags, 1, 0, 0, 1 if edns else 0)
    return head + dns.encode_name(name) + struct.pack(">HH", kind, 1) + opt


def response(
    name: str, kind: int = dns.A, *, id: int = 7, status: int = 0, answers: bytes = b"", count: int = 0, soa: int = -1
) -> bytes:
    """A response of whatever records; `soa`: the minimum of a SOA record in its authority section, with a TTL of 900."""
    head = struct.pack(">HHHHHH", id, 0x8180 | status, 1, count, int(soa >= 0), 0)
    authority = b""
    if soa >= 0:
        content = dns.encode_name("ns") + dns.encode_name("who") + struct.pack(">IIIII", 1, 2, 3, 4, soa)
        authority = dns.encode_name("example") + struct.pack(">HHIH", 6, 1, 900, len(content)) + content
    return head + dns.encode_name(name) + struct.pack(">HH", kind, 1) + answers + authority


def record(name: str, kind: int, ttl_s: int, content: bytes) -> bytes:
    """One resource record."""
    return dns.encode_name(name) + struct.pack(">HHIH", kind, 1, ttl_s, len(content)) + content
