from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import subprocess

import pytest
from mirrord_trace.agent import netlink


def test_attributes_are_padded_and_read_back():
    block = netlink.text(1, "ab") + netlink.number(2, 7) + netlink.nest(3, netlink.long_number(1, 5))
    assert len(block) % 4 == 0
    found = netlink.attributes(block)
    assert found[1] == b"ab\0"
    assert found[2] == b"\0\0\0\7"
    assert netlink.attributes(found[3]) == {1: bytes(7) + b"\5"}


@pytest.mark.parametrize("block", [b"", b"\1", b"\0\0\0\0", b"\2\0\1\0rest"])
def test_attributes_that_are_cut_or_wrong_end_the_reading(block):
    assert netlink.attributes(block) == {}


def test_an_error_of_the_kernel_is_an_oserror():
    rtnetlink = netlink.Netlink(netlink.NETLINK_ROUTE)
    with pytest.raises(OSError) as caught:
        rtnetlink.exchange([(0x7FF0, 0, b"")])
    rtnetlink.close()
    assert caught.value.errno == errno.EOPNOTSUPP


def test_a_namespace_with_nothing_but_loopback_has_no_addresses(pod):
    assert pod.run(netlink.interface_addresses) == ()


def test_addresses_of_both_families(pod):
    script = """
        set -e; PATH=$PATH:/usr/sbin:/sbin
        ip link add one type veth peer name two
        ip addr add 10.1.2.3/24 dev one
        ip addr add fd00::7/64 dev two nodad
    """
    done = pod.run(lambda: subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False))
    if "not found" in done.stderr:
        pytest.skip("ip (iproute2) is not installed")
    assert done.returncode == 0, done.stderr
    found = {str(ipaddress.ip_address(each)) for each in pod.run(netlink.interface_addresses)}
    assert found >= {"10.1.2.3", "fd00::7"}


def test_default_gateways_of_both_families(pod):
    script = """
        set -e; PATH=$PATH:/usr/sbin:/sbin
        ip link add one type veth peer name two
        ip addr add 10.8.0.2/24 dev one; ip addr add fd00:8::2/64 dev one nodad; ip link set one up; ip link set two up
        ip route add default via 10.8.0.1; ip route add 10.7.0.0/16 via 10.8.0.3; ip -6 route add default via fd00:8::1
    """
    if shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        pytest.skip("ip (iproute2) is not installed")
    assert pod.run(netlink.default_gateways) == ()
    done = pod.run(lambda: subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False))
    assert done.returncode == 0, done.stderr
    expected = {ipaddress.ip_address("10.8.0.1").packed, ipaddress.ip_address("fd00:8::1").packed}
    assert set(pod.run(netlink.default_gateways)) == expected
