from __future__ import annotations

import ipaddress
import os
import socket

import pytest
from mirrord_trace.supervisor.targets.demo import kernel, network
from mirrord_trace.supervisor.targets.demo.pod import DemoPod

_PLAN = (
    network.POD, network.GATEWAY, network.CLIENT, network.API, network.DNS, network.GREETER, network.ECHO,
    network.BLACK_HOLE, network.UNREACHABLE,
)  # fmt: skip

_SERVICES = (network.API, network.DNS, network.GREETER, network.ECHO, network.BLACK_HOLE, network.CLIENT)


def test_addresses_are_of_private_ranges_and_unlike_each_other() -> None:
    for ipv4, ipv6 in _PLAN:
        assert ipaddress.ip_address(ipv4) in ipaddress.ip_network("10.0.0.0/8")
        assert ipaddress.ip_address(ipv6) in ipaddress.ip_network("fd00::/8")
    assert len({address for pair in _PLAN for address in pair}) == 2 * len(_PLAN)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_pod_reaches_services_with_its_own_address(pod: DemoPod, family: socket.AddressFamily) -> None:
    version = family == socket.AF_INET6
    with pod.open_socket(family, in_pod=True) as connection:
        connection.settimeout(10)
        connection.connect((network.ECHO[version], network.ECHO_PORT))
        assert connection.getsockname()[0] == network.POD[version]


def test_a_refused_port_refuses(pod: DemoPod) -> None:
    with pytest.raises(ConnectionRefusedError):
        pod.connect(network.REFUSED_PORT)
    with pytest.raises(ConnectionRefusedError):
        pod.connect(network.REFUSED_PORT, network.GREETER[0], in_pod=True)


def test_addresses_can_be_reached_as_soon_as_they_have_been_added() -> None:
    """In new namespaces, where the kernel makes the routes of IPv6 addresses while others go on."""
    for _ in range(10):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
                has_ipv6 = network.set_up_cluster(network.make_link())
                status = 0 if all(_reaches_itself(pair[has_ipv6]) for pair in _SERVICES) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _reaches_itself(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        probe.connect(probe.getsockname())
        probe.send(b"x")
        probe.settimeout(5)
        return probe.recv(1) == b"x"
