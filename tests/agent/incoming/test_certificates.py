"""Finding certificates, and HTTPS through a real agent."""

from __future__ import annotations

import datetime
import errno
import json
import os
import socket
import ssl
import threading

import pytest
from mirrord_trace.agent.http.rules import Tls
from mirrord_trace.agent.incoming import certificates
from mirrord_trace.agent.incoming.certificates import Certificates
from mirrord_trace.agent.root import Root
from mirrord_trace.agent.target import Target
from mirrord_trace.agent.wire.messages import Done, Failed, GetPod, Subscribe

x509 = pytest.importorskip("cryptography.x509", reason="cryptography makes the certificates")


def write_pair(folder, *names):
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
    certificate = builder.add_extension(alternatives, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tls.crt").write_bytes(certificate.public_bytes(pem))
    (folder / "tls.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(folder / "tls.crt"), str(folder / "tls.key")


@pytest.fixture
def target(tmp_path):
    root = Root(os.open(tmp_path, os.O_PATH | os.O_DIRECTORY))
    yield Target(os.getpid(), root, (), (), b"/")
    root.close()


def test_files_are_those_of_the_target(tmp_path, target):
    write_pair(tmp_path / "etc/tls", "a.example")
    (tmp_path / "link").symlink_to("/etc/tls")
    found = Certificates(target, Tls("/link/tls.crt", "/etc/tls/tls.key"))
    plain, with_alpn = found.context_for("x", ()), found.context_for("x", ("h2",))
    assert plain is found.context_for("y", ())
    assert plain is not with_alpn
    found.close()
    assert found.context_for("x", ()) is None


def test_what_cannot_be_used_is_told(tmp_path, target):
    write_pair(tmp_path / "one", "a.example")
    write_pair(tmp_path / "two", "a.example")
    (tmp_path / "text").write_text("hello")
    for tls, code, text in (
        (Tls("/none", "/none"), errno.ENOENT, "cannot read /none in the pod"),
        (Tls("/one/tls.crt", "/two/tls.key"), errno.EINVAL, "cannot be used"),
        (Tls("/text"), errno.EINVAL, "/text and /text cannot be used"),
    ):
        with pytest.raises(OSError, match=text) as caught:
            Certificates(target, tls)
        assert caught.value.errno == code


def test_mounted_secrets_are_found_and_the_name_decides(tmp_path, target, monkeypatch):
    write_pair(tmp_path / "first", "a.example")
    write_pair(tmp_path / "second", "b.example", "*.c.example")
    (tmp_path / "third").mkdir()
    monkeypatch.setattr(certificates, "_mounts", lambda pid: iter((b"/third", b"/first", b"/none", b"/second")))
    found = Certificates(target, Tls())
    first = found.context_for("a.example", ())
    second = found.context_for("B.example", ())
    assert first is not second
    assert found.context_for("x.c.example", ()) is second
    assert found.context_for("unknown.example", ()) is first
    assert found.context_for("\xe4", ()) is first
    assert found.context_for("", ()) is first
    found.close()


def test_without_any_the_remedy_is_told(target, monkeypatch):
    monkeypatch.setattr(certificates, "_mounts", lambda pid: iter(()))
    with pytest.raises(OSError, match=r"tls\.certificate"):
        Certificates(target, Tls())


def test_mounts_are_read_from_proc():
    found = list(certificates._mounts(os.getpid()))
    assert found
    assert not any(path.startswith((b"/proc", b"/sys", b"/dev")) for path in found)
    assert list(certificates._mounts(2**22 + 1)) == []


def test_https_is_told_apart_by_requests(pod, traffic, start_agent, tmp_path):
    certificate, key = write_pair(tmp_path, "pod.example")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate, key)

    def serve(sock):
        with server_side.wrap_socket(sock, server_side=True) as secure:
            secure.recv(1000)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\ncontainer")

    def call(path, got):
        context = ssl.create_default_context(cafile=certificate)
        with traffic.call(port) as sock, context.wrap_socket(sock, server_hostname="pod.example") as secure:
            secure.sendall(b"GET /%s HTTP/1.1\r\nHost: pod.example\r\nConnection: close\r\n\r\n" % path)
            while part := secure.recv(1000):
                got += part

    rules = {"filter": {"path": "mine"}, "tls": {"certificate": certificate, "key": key, "delivery": "tcp"}}
    _, client = start_agent(pid=pod.pid)
    with traffic.container(serve) as port:
        assert client.ask(Subscribe(port, False, json.dumps(rules), False)) == Done()
        for path, expected in ((b"theirs", b"container"), (b"mine", b"client!!!")):
            got = bytearray()
            thread = threading.Thread(target=call, args=(path, got))
            thread.start()
            if path == b"mine":
                client.until(lambda: bool(client.incoming))
                ours = client.joined(client.incoming.pop().stream)
                assert client.receive(ours, 5) == b"GET /"
                ours.setblocking(True)
                ours.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nclient!!!")
                ours.shutdown(socket.SHUT_WR)
            client.until(lambda thread=thread: not thread.is_alive())
            thread.join()
            assert got.endswith(expected)
            assert heard(client) == []
        ours.close()


def test_no_certificate_is_a_refusal(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    refused = client.ask(Subscribe(8443, False, '{"tls": {"certificate": "/none"}}', False))
    assert isinstance(refused, Failed)
    assert (refused.errno, refused.text) == (errno.ENOENT, "cannot read /none in the pod: No such file or directory")
    assert pod.ruleset() == ""


def heard(client):
    """Connections that the agent has told of up to now: it answers behind what it had to say."""
    client.ask(GetPod())
    return client.incoming
