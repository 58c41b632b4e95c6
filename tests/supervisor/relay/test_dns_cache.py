from __future__ import annotations

from mirrord_trace.supervisor.relay import dns_message
from mirrord_trace.supervisor.relay.dns_cache import LONGEST_S, MOST_ENTRIES, DnsCache
from mirrord_trace.supervisor.relay.dns_message import A
from queries import query, record, response


class Cache:
    def __init__(self) -> None:
        self.now = 1000.0
        self.cache = DnsCache(lambda: self.now)

    def keep(self, name: str, message: bytes, place: str = "server") -> None:
        asked, read = dns_message.read_query(query(name)), dns_message.read_response(message)
        assert asked is not None
        assert read is not None
        self.cache.keep(place, asked, message, read)

    def ask(self, name: str, place: str = "server", **more: int) -> bytes | None:
        message = query(name, **more)
        asked = dns_message.read_query(message)
        assert asked is not None
        return self.cache.answer(place, message, asked)


def answer(name: str, ttl_s: int = 30, size: int = 4) -> bytes:
    return response(name, answers=record(name, A, ttl_s, b"x" * size), count=1)


def test_an_answer_is_given_until_its_time_is_up() -> None:
    cache = Cache()
    assert cache.ask("a.example") is None
    cache.keep("a.example", answer("a.example"))
    cache.now += 10.5
    kept = cache.ask("A.example", id=99)
    assert kept is not None
    read = dns_message.read_response(kept)
    assert read is not None
    assert (read.id, [one.ttl_s for one in read.answers], kept[12:14]) == (99, [20], b"\1A")
    cache.now += 19.5
    assert cache.ask("a.example") is None


def test_another_server_type_or_flag_is_another_question() -> None:
    cache = Cache()
    cache.keep("a.example", answer("a.example"))
    assert cache.ask("a.example", "other") is None
    assert cache.ask("a.example", kind=28) is None
    assert cache.ask("a.example", flags=0x0120) is None
    assert cache.ask("a.example", edns=1232) is None
    assert cache.ask("a.example") is not None


def test_what_is_not_kept() -> None:
    cache = Cache()
    cache.keep("a.example", answer("a.example", ttl_s=0))
    cache.keep("b.example", answer("b.example", size=9000))
    cache.keep("c.example", response("c.example", status=2))
    assert [cache.ask(name) for name in ("a.example", "b.example", "c.example")] == [None, None, None]


def test_bounds() -> None:
    cache = Cache()
    cache.keep("old.example", answer("old.example", ttl_s=LONGEST_S * 10))
    cache.now += LONGEST_S - 1
    assert cache.ask("old.example") is not None
    cache.now += 1
    assert cache.ask("old.example") is None
    cache.keep("first.example", answer("first.example"))
    cache.keep("second.example", answer("second.example"))
    assert cache.ask("first.example") is not None
    for number in range(MOST_ENTRIES - 1):
        cache.keep(f"n{number}", answer(f"n{number}"))
    assert cache.ask("first.example") is not None, "used last"
    assert cache.ask("second.example") is None
