"""What is known of the sockets of supervised programs, and when it is forgotten."""

from __future__ import annotations

import errno

from callers import address
from mirrord_trace.syscalls.net.sockets import PENDING, Datagrams, Listener, Sockets
from mirrord_trace.syscalls.requests import Verdict

PEER = address("10.96.0.20", 80)
LOCAL = address("10.244.0.7", 40000)


def test_it_is_falsy_while_there_are_none() -> None:
    sockets = Sockets()
    assert not sockets
    for fill in (
        lambda: sockets.begin(1, PEER),
        lambda: sockets.datagrams.update({1: Datagrams(1)}),
        lambda: sockets.listeners.update({1: Listener(80, 80)}),
        lambda: sockets.names.update({1: PEER}),
    ):
        fill()
        assert sockets
        sockets.sweep(())
        assert not sockets


def test_keys_are_never_used_again() -> None:
    sockets = Sockets()
    keys = [sockets.begin(1, PEER).key, sockets.new_key(), sockets.begin(1, PEER).key, sockets.begin(2, PEER).key]
    assert len(set(keys)) == 4


def test_a_verdict_finds_its_connection() -> None:
    sockets = Sockets()
    connection = sockets.begin(1, PEER)
    assert (connection.errno, connection.local, connection.told) == (PENDING, None, False)
    renamed = address("10.244.3.3", 8080)
    sockets.decided(Verdict(connection.key, 0, LOCAL, renamed))
    assert (connection.errno, connection.local, connection.peer) == (0, LOCAL, renamed)


def test_a_failure_keeps_the_peer() -> None:
    sockets = Sockets()
    connection = sockets.begin(1, PEER)
    sockets.decided(Verdict(connection.key, errno.ECONNREFUSED, LOCAL, address("0.0.0.0", 0)))
    assert (connection.errno, connection.peer) == (errno.ECONNREFUSED, PEER)


def test_the_verdict_of_an_earlier_connect_is_dropped() -> None:
    sockets = Sockets()
    old = sockets.begin(1, PEER)
    new = sockets.begin(1, PEER)
    forgotten = sockets.begin(2, PEER)
    sockets.forget(2)
    sockets.forget(2)
    for key in (old.key, forgotten.key, 99):
        sockets.decided(Verdict(key, errno.ETIMEDOUT, LOCAL, PEER))
    assert old.errno == new.errno == forgotten.errno == PENDING
    assert list(sockets.connections) == [1]


def test_listening_ports_are_those_that_were_asked_for() -> None:
    sockets = Sockets()
    sockets.listeners = {1: Listener(80, 45000), 2: Listener(8080, 8080), 3: Listener(80, 45001)}
    assert 80 in sockets.listening_ports
    assert 45000 not in sockets.listening_ports
    assert sockets.moved_listener(80) == 45000
    assert sockets.moved_listener(8080) == sockets.moved_listener(443) == 0


def test_a_sweep_is_due_at_twice_what_is_left() -> None:
    sockets = Sockets()
    first = 4096
    for inode in range(first):
        assert not sockets.wants_sweep
        sockets.begin(inode, PEER)
    assert sockets.wants_sweep
    old = sockets.connections[first - 1]
    sockets.sweep(range(first - 1))
    assert len(sockets.connections) == first - 1
    sockets.decided(Verdict(old.key, 0, LOCAL, PEER))
    assert old.errno == PENDING, "its key is gone, too"
    assert not sockets.wants_sweep
    sockets.names.update(dict.fromkeys(range(first - 2), PEER))
    assert not sockets.wants_sweep
    sockets.listeners[1] = Listener(80, 80)
    assert sockets.wants_sweep


def test_ports_of_datagrams() -> None:
    known = Datagrams(1)
    assert known.use(PEER) is None
    known.add(PEER, 5000)
    assert known.use(PEER) == 5000
    for last in range(Datagrams.MOST_PEERS - 1):
        known.add(address("10.0.0.1", last), last)
    assert known.use(PEER) == 5000
    known.add(address("fd00::1", 1), 5000)
    assert known.ports[PEER] == known.ports[address("fd00::1", 1)] == 5000
    assert known.peers == {(len(peer.ip) == 16, port): peer for peer, port in known.ports.items()}
    assert address("10.0.0.1", 0) not in known.ports


def test_a_port_stands_for_one_peer_at_a_time() -> None:
    known = Datagrams(1)
    known.add(PEER, 5000)
    known.add(LOCAL, 5000)
    assert known.ports == {LOCAL: 5000}
    assert known.peers == {(False, 5000): LOCAL}
