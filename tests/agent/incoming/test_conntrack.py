from __future__ import annotations

import socket

from mirrord_trace.agent import nft
from mirrord_trace.agent.incoming.conntrack import forget_datagrams


def test_flows_to_one_port_are_forgotten(pod):
    def use():
        # The kernel tracks nothing until some rule needs it to.
        redirect = nft.NftRedirect("mirrord_trace_test", 4444, 1, nft.UDP)
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for port in (5353, 5354):
                with socket.socket(family, socket.SOCK_DGRAM) as sock:
                    sock.sendto(b"x", (host, port))
        found = forget_datagrams(5353), forget_datagrams(5353), forget_datagrams(5354)
        redirect.close()
        return found

    assert pod.run(use) == (2, 0, 2)


def test_without_the_right_nothing_happens():
    assert forget_datagrams(1) == 0
