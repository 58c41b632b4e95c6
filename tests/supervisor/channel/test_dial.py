from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from mirrord_trace.supervisor.channel.dial import Host, ProxyRefused, dial


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            sock, _ = listener.accept()
            with sock:
                serve(sock)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


def read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return head


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.example:6443/", Host("api.example", 6443, True, "")),
        ("https://api.example", Host("api.example", 443, True, "")),
        ("http://127.0.0.1:8001/k8s/clusters/c-1/", Host("127.0.0.1", 8001, False, "/k8s/clusters/c-1")),
        ("https://[::1]:6443", Host("::1", 6443, True, "")),
        ("api.example:6443", Host("api.example", 6443, True, "")),
    ],
)
def test_host_is_read_from_a_url(url: str, host: Host) -> None:
    assert Host.parse(url) == host


@pytest.mark.parametrize("url", ["ftp://x", "https://", "unix:///socket"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        Host.parse(url)


def test_plain_connection() -> None:
    with server(lambda sock: sock.sendall(b"hello")) as port, dial(Host("127.0.0.1", port, False, ""), 5) as sock:
        assert sock.recv(5) == b"hello"


def test_through_a_proxy_with_a_login() -> None:
    heads = []

    def proxy(sock: socket.socket) -> None:
        heads.append(read_head(sock))
        sock.sendall(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nbytes behind")

    with (
        server(proxy) as port,
        dial(Host("api.example", 80, False, ""), 5, proxy=f"http://me:p%40ss@127.0.0.1:{port}") as sock,
    ):
        assert sock.recv(12) == b"bytes behind"
    assert heads == [
        b"CONNECT api.example:80 HTTP/1.1\r\nHost: api.example:80\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
    ]


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"", b"\r\n\r\n"])
def test_a_proxy_that_refuses(answer: bytes) -> None:
    def proxy(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(answer)

    with server(proxy) as port, pytest.raises(ProxyRefused, match=r"proxy 127\.0\.0\.1"):
        dial(Host("api.example", 443, True, ""), 5, proxy=f"127.0.0.1:{port}", context=ssl.create_default_context())


def test_other_proxies_are_refused() -> None:
    with pytest.raises(ProxyRefused, match="only http:// proxies"):
        dial(Host("api.example", 443, True, ""), 5, proxy="socks5://127.0.0.1:1")


def test_a_server_that_does_not_answer_the_tls_handshake() -> None:
    done = threading.Event()
    with server(lambda sock: (sock.recv(65536), done.wait(5), None)[-1]) as port:
        with pytest.raises(TimeoutError):
            dial(Host("127.0.0.1", port, True, ""), 0.2, context=ssl.create_default_context())
        done.set()


def test_a_server_that_does_not_speak_tls() -> None:
    def plain(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with server(plain) as port, pytest.raises(ssl.SSLError):
        dial(Host("127.0.0.1", port, True, ""), 5, context=ssl.create_default_context())


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        dial(Host("127.0.0.1", port, False, ""), 5)
