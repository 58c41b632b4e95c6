from __future__ import annotations

import socket

import pytest
from mirrord_trace.supervisor.targets.demo import dns, services


def _exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        response = b""
        while chunk := connection.recv(65536):
            response += chunk
    return response


@pytest.fixture(scope="module")
def http_port() -> int:
    listener = services.listen("127.0.0.1", 0)
    services.serve_tcp(listener, services.http("a server"))
    return int(listener.getsockname()[1])


def test_http_says_who_answers_and_who_asked(http_port: int) -> None:
    response = _exchange(http_port, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert response.startswith(b"HTTP/1.1 200 ")
    assert response.endswith(b"\r\n\r\na server: GET /x from 127.0.0.1\n")


def test_http_keeps_the_connection(http_port: int) -> None:
    request = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    response = _exchange(http_port, request % 1 + request % 2)
    assert response.count(b"HTTP/1.1 200 ") == 2
    assert b"GET /1 " in response
    assert b"GET /2 " in response


@pytest.mark.parametrize(
    ("request_line", "body"),
    [(b"GET /bytes/300", bytes(range(256)) + bytes(range(44))), (b"GET /slow/1", b"a server: GET /slow/1 from 127.0.0.1\n")],
)
def test_http_paths(http_port: int, request_line: bytes, body: bytes) -> None:
    response = _exchange(http_port, request_line + b" HTTP/1.0\r\n\r\n")
    assert response.partition(b"\r\n\r\n")[2] == body


def test_http_status_head_and_post(http_port: int) -> None:
    assert _exchange(http_port, b"GET /status/503 HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 503 ")
    assert _exchange(http_port, b"HEAD / HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\n")
    post = _exchange(http_port, b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")
    assert b"POST / with 5 bytes" in post


def test_http_refuses_what_is_no_request(http_port: int) -> None:
    assert _exchange(http_port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_echo_gives_back_bytes_and_end() -> None:
    listener = services.listen("127.0.0.1", 0)
    services.serve_tcp(listener, services.echo)
    assert _exchange(listener.getsockname()[1], b"x" * 100_000) == b"x" * 100_000


def test_dns_over_tcp_puts_the_length_first() -> None:
    listener = services.listen("127.0.0.1", 0)
    services.serve_tcp(listener, services.dns_over_tcp)
    query = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + dns.encode_name("missing") + b"\0\x01\0\x01"
    response = _exchange(listener.getsockname()[1], len(query).to_bytes(2, "big") + query)
    assert response == len(response[2:]).to_bytes(2, "big") + dns.answer(query)
    assert services.dns_over_udp(query) == dns.answer(query)


def test_udp_answers_unless_there_is_nothing_to_say() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    services.serve_udp("127.0.0.1", port, lambda datagram: datagram[1:])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(10)
        asker.connect(("127.0.0.1", port))
        asker.send(b"a")
        asker.send(b"bc")
        # The first one was answered with nothing, that is not at all.
        assert asker.recv(100) == b"c"
    assert services.same(b"x") == b"x"


def test_a_full_listener_never_answers() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    kept = services.never_answer("127.0.0.1", port)
    try:
        with socket.socket() as connection:
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.connect(("127.0.0.1", port))
    finally:
        for one in kept:
            one.close()
