from __future__ import annotations

import ssl

import pytest
from mirrord_trace.agent.http.tls_leg import TlsLeg


def client():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return TlsLeg(context, is_server=False, server_name="pod.example")


def test_a_client_speaks_first_and_keeps_what_it_has_to_send():
    leg = client()
    assert leg.output() == b""
    leg.start()
    assert leg.output().startswith(b"\x16\3")
    leg.send(b"later")
    leg.send_eof()
    assert leg.output() == b""
    assert not leg.ready
    assert leg.received(b"\x16") == b""


def test_garbage_is_an_error():
    leg = client()
    leg.start()
    with pytest.raises(ssl.SSLError):
        leg.received(b"HTTP/1.1 400 Bad Request\r\n\r\n")
