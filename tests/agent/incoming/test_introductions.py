from __future__ import annotations

import contextlib
import socket
import time

import pytest
from mirrord_trace.agent import claims, redirect
from mirrord_trace.agent.incoming import introductions
from mirrord_trace.agent.incoming.introductions import Introductions
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.wire.messages import Address

LOOPBACK = bytes([127, 0, 0, 1])
CLIENT = Address(bytes([10, 1, 2, 3]), 4711)


@pytest.fixture
def new():
    with contextlib.ExitStack() as stack:

        def make(join=True):
            loop = Loop()
            found = Introductions(loop, redirect.new_name())
            stack.callback(loop.close)
            stack.callback(found.close)
            if join:
                found.join()
            return found

        yield make


def introduced(speaker, peer=CLIENT, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        speaker.introduce(sock, peer)
        return sock.getsockname()[1]


def test_alone_nobody_is_told_and_nothing_bound(new):
    assert introduced(new()) == 0


def test_others_learn_who_is_behind_a_port_once(new):
    first, second, third = new(), new(), new()
    for speaker in (first, third):
        port = introduced(speaker)
        for listener in {first, second, third} - {speaker}:
            assert listener.true_peer(Address(LOOPBACK, port), Address(LOOPBACK, 80)) == CLIENT
            assert listener.true_peer(Address(LOOPBACK, port), Address(LOOPBACK, 80)) == Address(LOOPBACK, port)
        assert speaker.true_peer(Address(LOOPBACK, port), Address(LOOPBACK, 80)) == Address(LOOPBACK, port)


def test_families_have_ports_of_their_own(new):
    first, second = new(), new()
    peer = Address(bytes(15) + b"\2", 5)
    port = introduced(first, peer, socket.AF_INET6)
    assert second.true_peer(Address(LOOPBACK, port), Address(LOOPBACK, 80)) == Address(LOOPBACK, port)
    v6_loopback = bytes(15) + b"\1"
    assert second.true_peer(Address(v6_loopback, port), Address(v6_loopback, 80)) == peer


def test_a_stranger_is_who_he_says(new):
    first, second = new(), new()
    port = introduced(first)
    stranger = Address(bytes([10, 0, 0, 9]), port)
    assert second.true_peer(stranger, Address(bytes([10, 0, 0, 1]), 80)) == stranger


def test_old_news_is_no_news(new, monkeypatch):
    first, second = new(), new()
    port = introduced(first)
    later = time.monotonic() + 100
    monkeypatch.setattr(introductions.time, "monotonic", lambda: later)
    second._look()
    monkeypatch.setattr(introductions.time, "monotonic", lambda: later + 100)
    assert second.true_peer(Address(LOOPBACK, port), Address(LOOPBACK, 80)).port == port


def test_who_has_ended_is_forgotten(new):
    first, second = new(), new()
    second.close()
    introduced(first)
    assert introduced(first) == 0


def test_the_name_is_a_claim(new):
    found = new()
    (name,) = [name for name in claims.claimed(claims.PREFIX) if name == found._name]
    assert claims.is_claimed(name)
    found.close()
    assert not claims.is_claimed(name)


@pytest.mark.parametrize("said", [b"", b"\4\0\1\0\2\4abc", b"\4\0\1\0\2\5abcde", b"\4\0"])
def test_nonsense_is_not_heeded(said):
    assert introductions._parse(said) is None
