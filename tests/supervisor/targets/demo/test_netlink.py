from __future__ import annotations

import errno
import socket

import pytest
from mirrord_trace.supervisor.targets.demo.netlink import Netlink, attribute
from mirrord_trace.supervisor.targets.demo.pod import DemoPod


def test_an_attribute_is_padded_and_its_length_is_not() -> None:
    assert attribute(3, b"eth0\0") == b"\x09\x00\x03\x00eth0\0\0\0\0"
    assert attribute(1, b"abcd") == b"\x08\x00\x01\x00abcd"


def test_a_refusal_names_the_request() -> None:
    with Netlink() as netlink, pytest.raises(OSError, match=r"add address 300\.|illegal IP"):
        netlink.add_address("lo", "300.0.0.1", 32)
    with Netlink() as netlink, pytest.raises(OSError, match="move lo to the namespace of 2147483647") as failure:
        netlink.move("lo", 2147483647)
    assert failure.value.errno in (errno.EPERM, errno.ESRCH, errno.EINVAL)


def test_links_addresses_and_routes_are_as_asked_for(pod: DemoPod) -> None:
    # The pod is what these requests built.
    with pod.open_socket(kind=socket.SOCK_DGRAM, in_pod=True) as probe:
        probe.connect(("10.96.0.10", 53))
        assert probe.getsockname()[0] == "10.244.0.7"
    with pod.open_socket(in_pod=True) as probe, pytest.raises(OSError, match="No route to host"):
        probe.connect(("10.96.0.99", 80))
