"""conntrack by netlink: what the kernel remembers of the datagrams to a port is forgotten.

A redirect decides about the first packet of a flow only; for UDP "flow" means whatever goes between two addresses without a
pause of 30 s (or two minutes once it was answered). A peer that sends every ten seconds would never come to us, nor, at the
end, back to the pod. Best effort: kernels without ctnetlink wait for the pause.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from ..netlink import NETLINK_NETFILTER, NLM_F_DUMP, Netlink, attributes, nest

_SUBSYSTEM = 1 << 8
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2
_TUPLE_ORIGINAL, _TUPLE_PROTOCOL = 1, 2
_PROTOCOL_NUMBER, _PROTOCOL_DESTINATION_PORT = 1, 3


def forget_datagrams(port: int) -> int:
    """Forget all flows of datagrams to `port`; how many there were."""
    done = 0
    with contextlib.suppress(OSError):
        netlink = Netlink(NETLINK_NETFILTER)
        try:
            for family in (socket.AF_INET, socket.AF_INET6):
                done += _forget(netlink, family, port)
        finally:
            netlink.close()
    return done


def _forget(netlink: Netlink, family: int, port: int) -> int:
    head = struct.pack("!BBH", family, 0, 0)
    done = 0
    for answer in netlink.exchange([(_GET, NLM_F_DUMP, head)]):
        original = attributes(answer.payload[4:]).get(_TUPLE_ORIGINAL, b"")
        protocol = attributes(attributes(original).get(_TUPLE_PROTOCOL, b""))
        destination_port = protocol.get(_PROTOCOL_DESTINATION_PORT, b"")[:2]
        is_udp = protocol.get(_PROTOCOL_NUMBER, b"")[:1] == bytes([socket.IPPROTO_UDP])
        if is_udp and destination_port == struct.pack("!H", port):
            with contextlib.suppress(OSError):  # it is over by now
                netlink.exchange([(_DELETE, 0, head + nest(_TUPLE_ORIGINAL, original))])
                done += 1
    return done
