from __future__ import annotations

import socket

import pytest
from mirrord_trace.supervisor.targets.demo import cluster, dns, network
from mirrord_trace.supervisor.targets.demo.pod import DemoPod


@pytest.mark.parametrize("version", [0, 1])
def test_the_greeter_greets(pod: DemoPod, version: int) -> None:
    answer = pod.visit(network.HTTP_PORT, "/", network.GREETER[version], in_pod=True).decode()
    assert answer == f"{cluster.GREETER_NAME}: GET / from {network.POD[version]}\n"


@pytest.mark.parametrize("version", [0, 1])
def test_names_and_echo_by_datagrams(pod: DemoPod, version: int) -> None:
    family = socket.AF_INET6 if version else socket.AF_INET
    query = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + dns.encode_name("greeter.demo.svc.cluster.local") + b"\0\x01\0\x01"
    with pod.open_socket(family, socket.SOCK_DGRAM, in_pod=True) as asker:
        asker.settimeout(10)
        asker.sendto(query, (network.DNS[version], network.DNS_PORT))
        answer, peer = asker.recvfrom(1000)
        assert answer == dns.answer(query)
        assert peer[0] == network.DNS[version]
        asker.sendto(b"hello", (network.ECHO[version], network.ECHO_PORT))
        assert asker.recvfrom(1000)[0] == b"hello"


def test_the_black_hole_swallows(pod: DemoPod) -> None:
    with pod.open_socket(in_pod=True) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.connect((network.BLACK_HOLE[0], network.HTTP_PORT))
