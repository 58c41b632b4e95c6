"""TLS on all legs, with the ssl module as peer and ends."""

from __future__ import annotations

import datetime
import errno
import json
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.http.actions import CLIENT, PEER, POD
from mirrord_trace.agent.http.rules import Tls, parse_rules
from mirrord_trace.agent.http.tls import TlsEnds, open_tls_router, server_context
from mirrord_trace.agent.http.tls_leg import TlsLeg
from wires import ME, Wires, get, mine, ok

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """(certificate, key) for pod.example, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pod.example")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("pod.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("pem")
    folder.joinpath("cert").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    folder.joinpath("key").write_bytes(key.private_bytes(*encoding))
    return str(folder / "cert"), str(folder / "key")


class TlsNet(Wires):
    """Wires whose peer and ends speak TLS. `plain`: what each has decrypted."""

    def __init__(
        self, pem, alpn=(), pod=(), client=(), rules=ME, tls=None, name="pod.example", has_certificate=True, ends=None
    ):
        self.names = {}
        self.asked = []
        self.pem = pem
        self.protocols = {POD: pod, CLIENT: client}
        self.ends_ = ends or TlsEnds(tls or Tls(), lambda *asked: self.context(has_certificate, *asked))
        super().__init__(router=open_tls_router(parse_rules(json.dumps(rules)), False, self.ends_))
        context = ssl.create_default_context(cafile=pem[0])
        if name is None:
            context.check_hostname = False
        if alpn:
            context.set_alpn_protocols(list(alpn))
        self.legs = {PEER: TlsLeg(context, False, name)}
        self.legs[PEER].start()
        self.plain = {PEER: b""}
        self.plain_ends = set()

    def context(self, has_certificate, name, protocols):
        self.asked.append((name, protocols))
        return server_context(*self.pem, protocols) if has_certificate else None

    def serve(self, number):
        context = server_context(*self.pem, self.protocols[self.opened[number]])
        context.sni_callback = lambda _, name, __: self.names.__setitem__(number, name)
        self.legs[number] = TlsLeg(context, True)
        self.plain[number] = b""

    def settle(self):
        moved = True
        while moved:
            moved = False
            for number in list(self.opened):
                if number not in self.legs:
                    if self.opened[number] in self.plain_ends:
                        continue
                    self.serve(number)
                leg = self.legs[number]
                data = self.sent.pop(number, b"")
                if data:
                    self.plain[number] += leg.received(data)
                said = leg.output()
                if said and number not in self.closed:
                    self.says(number, said)
                moved = moved or bool(data or said)
        return self

    def say(self, number, data):
        self.legs[number].send(data)
        return self.settle()


def test_requests_go_where_they_belong(pem):
    net = TlsNet(pem).say(PEER, get("/a"))
    pod = net.last(POD)
    assert net.plain[pod] == get("/a")
    net.say(pod, ok(b"pod"))
    assert net.plain[PEER] == ok(b"pod")
    net.say(PEER, mine("/b"))
    client = net.last(CLIENT)
    assert net.plain[client] == mine("/b")
    net.say(client, ok(b"client"))
    assert net.plain[PEER] == ok(b"pod") + ok(b"client")
    assert net.names == {pod: "pod.example", client: "pod.example"}
    assert net.asked == [("pod.example", ())]
    net.legs[PEER].send_eof()
    net.settle()
    assert net.closed == {pod: 0, client: 0, PEER: 0}
    assert net.legs[PEER].ended


def test_a_plain_client_and_another_name(pem):
    net = TlsNet(pem, tls=Tls(delivery="tcp"))
    net.plain_ends.add(CLIENT)
    net.say(PEER, mine())
    client = net.last(CLIENT)
    assert net.sent[client] == mine()
    net.says(client, ok(b"x")).settle()
    assert net.plain[PEER] == ok(b"x")
    net = TlsNet(pem, tls=Tls(server_name="other.example")).say(PEER, mine())
    assert net.names[net.last(CLIENT)] == "other.example"


def test_the_clients_certificate_is_verified_if_roots_are_given(pem):
    with open(pem[0], encoding="ascii") as file:
        roots = file.read()
    net = TlsNet(pem, tls=Tls(trust_roots=roots, server_name="pod.example")).say(PEER, mine())
    assert net.plain[net.last(CLIENT)] == mine()
    net = TlsNet(pem, tls=Tls(trust_roots=roots, server_name="other.example"))
    with pytest.raises(ssl.SSLError):  # the alert, in our server
        net.say(PEER, mine())
    net.settle()
    assert net.plain[PEER].startswith(b"HTTP/1.1 502")
    with pytest.raises((ValueError, OSError)):
        TlsEnds(Tls(trust_roots="garbage"), lambda *_: None)


@pytest.mark.parametrize(
    ("offered", "pod", "chosen"),
    [
        (("h2", "http/1.1"), ("http/1.1",), "http/1.1"),
        (("h2", "http/1.1"), ("h2", "http/1.1"), "h2"),
        (("h2", "http/1.1"), (), None),
        (("h2", "spdy"), ("h2",), "h2"),
    ],
)
def test_all_legs_speak_what_the_pod_chooses(pem, offered, pod, chosen):
    net = TlsNet(pem, offered, pod, ("h2", "http/1.1")).settle()
    assert net.legs[PEER].protocol == chosen
    assert net.count(POD) == 1  # what has found it out is used
    if chosen == "h2":
        net.say(PEER, PREFACE)
        return
    net.say(PEER, get("/a"))
    assert net.plain[net.last(POD)] == get("/a")
    net.say(PEER, b"").say(net.last(POD), ok()).say(PEER, mine())
    assert net.legs[net.last(CLIENT)].protocol == chosen
    again = TlsNet(pem, offered, pod, ends=net.ends_)
    again.settle()
    assert again.legs[PEER].protocol == chosen


@pytest.mark.parametrize("break_", ["ends", "fails", "waits"])
def test_without_the_pod_there_is_still_the_client(pem, break_):
    net = TlsNet(pem, ("h2", "http/1.1"), client=("http/1.1",))
    net.peer(net.legs[PEER].output())
    assert net.opened[1] == POD
    getattr(net, break_)(*([] if break_ == "waits" else [1]))
    net.settle()
    assert net.legs[PEER].protocol == "http/1.1"
    net.say(PEER, mine())
    assert net.plain[net.last(CLIENT)] == mine()


def test_what_is_not_tls_is_plain(pem):
    net = TlsNet(pem).peer(mine())
    assert net.to(CLIENT) == mine()
    net = TlsNet(pem).peer(b"\0\0\0\4")
    assert net.to(POD) == b"\0\0\0\4"
    assert net.joined[PEER] == net.last(POD)
    net = TlsNet(pem).waits()
    net.says(net.last(POD), b"220 hello")
    assert net.sent[PEER] == b"220 hello"


def test_without_a_certificate_the_pod_gets_what_came(pem):
    net = TlsNet(pem, has_certificate=False)
    hello = net.legs[PEER].output()
    net.peer(hello)
    assert net.to(POD) == hello
    assert net.joined[PEER] == net.last(POD)
    net = TlsNet(pem, ("h2",), ("h2",), has_certificate=False)
    hello = net.legs[PEER].output()
    net.peer(hello).settle()
    assert net.closed == {1: 0}
    assert net.joined[PEER] == 2


def test_joined_connections_stay_encrypted(pem):
    net = TlsNet(pem).say(PEER, mine("/ws", "Connection: upgrade", "Upgrade: websocket"))
    client = net.last(CLIENT)
    net.say(client, b"HTTP/1.1 101 S\r\n\r\n").say(client, b"from the client").say(PEER, b"from the peer")
    assert net.plain[PEER].endswith(b"from the client")
    assert net.plain[client].endswith(b"from the peer")
    net.legs[PEER].send_eof()
    net.settle()
    assert net.legs[client].ended
    net.ends(client)
    assert net.closed[PEER] == net.closed[client] == 0
    net = TlsNet(pem).say(PEER, b"\0 not HTTP")
    pod = net.last(POD)
    assert net.plain[pod] == b"\0 not HTTP"
    net.say(pod, b"whatever").fails(PEER)
    assert net.plain[PEER] == b"whatever"
    assert net.closed[pod] == errno.ECONNRESET


def test_a_peer_that_refuses_the_certificate(pem):
    net = TlsNet(pem, name="other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        net.settle()
    net.legs[PEER].output()
    net.says(PEER, b"\x15\3\3\0\2\2\x2a").says(PEER, b"garbage that no record is")
    assert PEER in net.closed
    assert set(net.closed) == set(net.opened)


def test_an_end_without_tls_is_broken(pem):
    net = TlsNet(pem)
    net.plain_ends.add(CLIENT)
    net.say(PEER, mine())
    net.says(net.last(CLIENT), b"HTTP/1.1 400 Bad Request\r\n\r\n").settle()
    assert net.plain[PEER].startswith(b"HTTP/1.1 502")


def test_a_peer_without_a_name(pem):
    net = TlsNet(pem, name=None).say(PEER, get())
    assert net.plain[net.last(POD)] == get()
    assert net.asked == [("", ())]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_bytes_are_too_much(pem, data):
    net = TlsNet(pem, data.draw(st.sampled_from([(), ("h2", "http/1.1")])), ("http/1.1",))
    if data.draw(st.booleans()):
        net.say(PEER, mine() if data.draw(st.booleans()) else b"")
    hello = net.legs[PEER].output() or b"\x16\3\1\0\5\1\0\0\1\0"
    for _ in range(data.draw(st.integers(1, 6))):
        number = data.draw(st.sampled_from(sorted(net.opened)))
        what = data.draw(st.sampled_from(["says", "says", "ends", "fails", "waits"]))
        at = data.draw(st.integers(0, len(hello)))
        junk = data.draw(
            st.one_of(st.binary(), st.just(hello), st.just(hello[:at] + b"\xff" + hello[at + 1 :]), st.just(hello[:at]))
        )
        if what == "waits":
            if net.router.wants_s:
                net.waits()
        else:
            getattr(net, what)(number, *([junk] if what == "says" else []))
    net.fails(PEER)
    for number in list(net.opened):
        net.ends(number)
    assert set(net.opened) == set(net.closed) | set(net.joined)


def test_a_hello_in_pieces_of_one_byte(pem):
    net = TlsNet(pem)
    for byte in net.legs[PEER].output():
        net.peer(bytes([byte]))
    assert net.say(PEER, mine()).plain[net.last(CLIENT)] == mine()
