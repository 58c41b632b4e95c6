"""Messages of the domain name system (RFC 1035) as far as a forwarder needs them: read, aged and answered, never rewritten.

What comes from a name server is passed on byte for byte. dnspython's `dns.wire.Parser` finds the places of what matters
here; it is imported with the first query, since that takes longer than everything else of the relay together.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

A, CNAME, SOA, AAAA, OPT = 1, 5, 6, 28, 41
CLASS_IN = 1
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3

HEADER_BYTES = 12
UDP_LIMIT_BYTES = 512
_HEADER = struct.Struct(">HHHHHH")
_FLAG_RESPONSE, _FLAG_TRUNCATED = 0x8000, 0x0200
_FLAG_RECURSION_DESIRED, _FLAG_RECURSION_AVAILABLE = 0x0100, 0x0080
_OPCODE = 0x7800
_MOST_RECORDS = 1024
_MOST_ALIASES = 16
_HOSTS_TTL_S = 5
_FIRST_META_KIND = 249  # zone transfers and the like, which may have many responses


class Record(NamedTuple):
    """A resource record: canonical owner name, type, TTL, and where its TTL and its content are in the message."""

    owner: str
    kind: int
    ttl_s: int
    ttl_at: int
    content: bytes
    target: str


@dataclass(frozen=True)
class Query:
    """A query with one question. `name` is canonical; `key` is the message but for its id and the case of the name.

    `limit_bytes`: how long an answer may be that comes by UDP.
    """

    id: int
    name: str
    kind: int
    question_end: int
    key: bytes
    limit_bytes: int


@dataclass(frozen=True)
class Response:
    """A response to one question. `answers` and `authorities` are the records of these sections."""

    id: int
    name: str
    kind: int
    status: int
    truncated: bool
    question_end: int
    answers: tuple[Record, ...]
    authorities: tuple[Record, ...]
    ttls_at: tuple[tuple[int, int], ...]
    """(place, TTL) of every record but OPT."""

    def addresses(self) -> tuple[tuple[str, ...], tuple[bytes, ...], int]:
        """Names that lead from the question by CNAMEs to the addresses, these addresses, and the least TTL of it all."""
        names = [self.name]
        ttls: list[int] = []
        for _ in range(_MOST_ALIASES):
            step = next((one for one in self.answers if one.kind == CNAME and one.owner == names[-1]), None)
            if step is None or step.target in names:
                break
            names.append(step.target)
            ttls.append(step.ttl_s)
        found = [one for one in self.answers if one.kind in (A, AAAA) and one.owner in names and len(one.content) in (4, 16)]
        ttls += [one.ttl_s for one in found]
        return tuple(names), tuple(one.content for one in found), min(ttls, default=0)

    def lifetime_s(self) -> int:
        """How long it may be kept: 0 for failures, for what was cut short, and for a "no" without a SOA (RFC 2308)."""
        if self.truncated or self.status not in (NOERROR, NXDOMAIN):
            return 0
        if self.status == NOERROR and any(one.kind != CNAME or self.kind == CNAME for one in self.answers):
            return min(ttl for _, ttl in self.ttls_at)
        soa = next((one for one in self.authorities if one.kind == SOA and len(one.content) >= 4), None)
        if soa is None:
            return 0
        (minimum,) = struct.unpack(">I", soa.content[-4:])
        return min(soa.ttl_s, int(minimum), *(one.ttl_s for one in self.answers))


def read_query(message: bytes) -> Query | None:
    """The query, or None for what is no plain query with one question."""
    if len(message) < HEADER_BYTES:
        return None
    id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(message)
    if flags & (_FLAG_RESPONSE | _OPCODE) or (questions, answers, authorities) != (1, 0, 0) or additional > 2:
        return None
    try:
        parser = _parser(message)
        name, kind = _question(parser)
        end = parser.current
        limit = UDP_LIMIT_BYTES
        for record, rank in _records(parser, additional):
            if record.kind == OPT:
                limit = max(limit, rank)
    except Exception:  # whatever the parser makes of bytes of somebody else
        return None
    if kind >= _FIRST_META_KIND:
        return None
    # Labels are at most 63 bytes, so no length byte is a letter.
    key = message[2:HEADER_BYTES] + message[HEADER_BYTES : end - 4].lower() + message[end - 4 :]
    return Query(id, name, kind, end, key, limit)


def read_response(message: bytes) -> Response | None:
    """The response, or None for what is no response to one question of class IN."""
    if len(message) < HEADER_BYTES:
        return None
    id, flags, questions, *counts = _HEADER.unpack_from(message)
    if not flags & _FLAG_RESPONSE or flags & _OPCODE or questions != 1 or sum(counts) > _MOST_RECORDS:
        return None
    sections: list[list[Record]] = []
    try:
        parser = _parser(message)
        name, kind = _question(parser)
        end = parser.current
        if not flags & _FLAG_TRUNCATED:
            sections = [[record for record, _ in _records(parser, count)] for count in counts]
    except Exception:  # whatever the parser makes of bytes of somebody else
        return None
    answers, authorities = sections[:2] if sections else ([], [])
    return Response(
        id, name, kind, flags & 0xF, bool(flags & _FLAG_TRUNCATED), end, tuple(answers), tuple(authorities),
        tuple((one.ttl_at, one.ttl_s) for section in sections for one in section if one.kind != OPT),
    )  # fmt: skip


def answered_from(kept: bytes, response: Response, age_s: int, query: bytes, question_end: int) -> bytes:
    """A kept response as the answer to another query of the same key: its id, its spelling of the name, TTLs gone down."""
    message = bytearray(kept)
    message[0:2] = query[0:2]
    message[HEADER_BYTES:question_end] = query[HEADER_BYTES:question_end]
    for place, ttl in response.ttls_at:
        struct.pack_into(">I", message, place, max(0, ttl - age_s))
    return bytes(message)


def with_id(message: bytes, id: int) -> bytes:
    """The same message with another id."""
    return id.to_bytes(2, "big") + message[2:]


def address_response(query: bytes, question: Query, ips: Sequence[bytes]) -> bytes:
    """An answer of our own with these addresses: an entry of /etc/hosts. None of the wanted family: NODATA."""
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", question.kind, CLASS_IN, _HOSTS_TTL_S, len(ip)) + ip
        for ip in ips
        if question.kind == (A if len(ip) == 4 else AAAA)
    )
    count = sum(question.kind == (A if len(ip) == 4 else AAAA) for ip in ips)
    return _own(query, question, NOERROR, count) + records


def failure(query: bytes, question: Query, status: int) -> bytes:
    """An answer of our own without records."""
    return _own(query, question, status, 0)


def cut_short(response: bytes, question_end: int) -> bytes:
    """The same response without records, with the flag that says: ask again by TCP."""
    id, flags, *_ = _HEADER.unpack_from(response)
    return _HEADER.pack(id, flags | _FLAG_TRUNCATED, 1, 0, 0, 0) + response[HEADER_BYTES:question_end]


def _own(query: bytes, question: Query, status: int, answers: int) -> bytes:
    (flags,) = struct.unpack_from(">H", query, 2)
    flags = _FLAG_RESPONSE | _FLAG_RECURSION_AVAILABLE | (flags & _FLAG_RECURSION_DESIRED) | status
    return _HEADER.pack(question.id, flags, 1, answers, 0, 0) + query[HEADER_BYTES : question.question_end]


def _parser(message: bytes) -> Any:
    from dns.wire import Parser

    return Parser(message, HEADER_BYTES)


def _question(parser: Any) -> tuple[str, int]:
    name = _name(parser)
    kind, question_class = parser.get_struct(">HH")
    if question_class != CLASS_IN:
        raise ValueError("not the Internet")
    return name, int(kind)


# Each record, with the number in the place of its class, which is a size in OPT.
def _records(parser: Any, count: int) -> Iterator[tuple[Record, int]]:
    for _ in range(count):
        owner = _name(parser)
        kind, rank, ttl, size = parser.get_struct(">HHIH")
        start = parser.current
        with parser.restrict_to(size):
            target = _name(parser) if kind == CNAME else ""
            parser.seek(start)
            content = parser.get_remaining()
        # RFC 2181: a TTL with its highest bit set is none.
        yield Record(owner, kind, ttl if ttl < 1 << 31 else 0, start - 6, bytes(content), target), rank


# Parser.get_name refuses compression in newer versions, and in older ones has no parameter for it.
def _name(parser: Any) -> str:
    from dns.name import from_wire_parser

    return ".".join(label.decode("latin-1") for label in from_wire_parser(parser).labels if label).lower()


def is_address(text: str) -> bytes | None:
    """The packed address that `text` is, without its zone; None if it is none."""
    try:
        return ipaddress.ip_address(text.partition("%")[0]).packed
    except ValueError:
        return None
