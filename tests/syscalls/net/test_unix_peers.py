"""Stand-ins by the names that the kernel says."""

from __future__ import annotations

from mirrord_trace.syscalls.net.unix_peers import NAME_BYTES, Peer, UnixPeers, new_name


def test_names_are_abstract_and_never_the_same() -> None:
    names = {new_name() for _ in range(100)}
    assert len(names) == 100
    assert {len(name) for name in names} == {NAME_BYTES}
    assert {name[:1] for name in names} == {b"\0"}


def test_found_by_name_by_socket_and_by_what_is_sent_to() -> None:
    peers = UnixPeers()
    assert not peers
    assert 7 not in peers
    stream, datagrams = Peer(7, b"/s", b"/real", 1), Peer(7, b"/dev/log", b"/dev/log", 3)
    peers.add(b"\0a", stream, datagrams=False)
    peers.add(b"\0b", datagrams, datagrams=True)
    assert 7 in peers
    assert (peers.get(b"\0a"), peers.get(b"\0b"), peers.get(b"\0c")) == (stream, datagrams, None)
    assert list(peers.named(7)) == [(b"\0a", stream), (b"\0b", datagrams)]
    assert peers.for_datagrams(7, b"/dev/log") == b"\0b"
    assert not peers.for_datagrams(7, b"/s")
    assert not peers.for_datagrams(8, b"/dev/log")
    peers.drop(b"\0b")
    peers.drop(b"\0b")
    assert not peers.for_datagrams(7, b"/dev/log")
    assert len(peers) == 1


def test_a_newer_stand_in_takes_what_is_sent() -> None:
    peers = UnixPeers()
    peers.add(b"\0a", Peer(7, b"/d", b"/d", 1), datagrams=True)
    peers.add(b"\0b", Peer(7, b"/d", b"/d", 3), datagrams=True)
    peers.drop(b"\0a")
    assert peers.for_datagrams(7, b"/d") == b"\0b"


def test_sweep_keeps_what_is_open() -> None:
    peers = UnixPeers()
    for inode in (7, 8, 9):
        peers.add(b"\0%d" % inode, Peer(inode, b"/d", b"/d", inode), datagrams=True)
    peers.sweep({8})
    assert len(peers) == 1
    assert 8 in peers
    assert not peers.for_datagrams(7, b"/d")
