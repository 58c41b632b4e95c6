"""struct ifreq and ifconf as this machine's kernel fills them."""

from __future__ import annotations

import fcntl
import socket
import struct

from mirrord_trace.syscalls.abi import ifreq


def test_the_kernel_agrees_about_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        index = fcntl.ioctl(sock, ifreq.SIOCGIFINDEX, ifreq.encode_request(b"lo", b""))
        assert ifreq.decode_index(index) == socket.if_nametoindex("lo")
        assert ifreq.decode_name(index) == b"lo"
        assert index[16:20] == ifreq.encode_number(socket.if_nametoindex("lo"))
        named = fcntl.ioctl(sock, ifreq.SIOCGIFNAME, bytes(16) + index[16:40])
        assert named[:16] == ifreq.encode_name(b"lo")
        hardware = fcntl.ioctl(sock, ifreq.SIOCGIFHWADDR, ifreq.encode_request(b"lo", b""))
        assert hardware[16:32] == ifreq.encode_hardware_address(772, bytes(6))


def test_names_are_cut() -> None:
    assert ifreq.decode_name(b"x" * 40) == b"x" * 15
    assert ifreq.encode_name(b"y" * 40) == b"y" * 15 + b"\0"
    assert ifreq.decode_name(b"eth0\0rubbish of the stack") == b"eth0"


def test_values() -> None:
    assert ifreq.encode_address(bytes((10, 0, 0, 1))) == bytes((2, 0, 0, 0, 10, 0, 0, 1)) + bytes(8)
    assert ifreq.encode_flags(0x11043) == struct.pack("=H", 0x1043)
    assert ifreq.encode_map(b"") == bytes(24)
    assert ifreq.encode_map(struct.pack("=QQQHBB", 1, 2, 3, 4, 5, 6)) == struct.pack("=QQHBBB3x", 1, 2, 3, 4, 5, 6)
    assert len(ifreq.encode_request(b"lo", b"")) == ifreq.IFREQ_BYTES
    assert ifreq.decode_list(struct.pack("=i4xQ", 80, 0x1000)) == (80, 0x1000)


def test_all_commands() -> None:
    assert set(ifreq.COMMANDS) == ifreq.ADDRESS_COMMANDS | ifreq.LINK_COMMANDS | {ifreq.SIOCGIFNAME, ifreq.SIOCGIFCONF}
    assert all(0x8900 < command < 0x89A0 for command in ifreq.COMMANDS)
