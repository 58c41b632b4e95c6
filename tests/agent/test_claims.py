from __future__ import annotations

import errno
import re

import pytest
from mirrord_trace.agent import claims, redirect


def test_a_claim_is_exclusive_until_it_is_closed():
    name = redirect.new_name()
    assert not claims.is_claimed(name)
    with claims.claim(name):
        assert claims.is_claimed(name)
        assert claims.claimed(name) == [name]
        with pytest.raises(OSError) as caught:
            claims.claim(name)
        assert caught.value.errno == errno.EADDRINUSE
    assert not claims.is_claimed(name)
    assert claims.claimed(name) == []


def test_a_claim_is_of_one_network_namespace(pod):
    name = redirect.new_name()
    with claims.claim(name):
        assert pod.run(lambda: claims.is_claimed(name)) is False
        assert pod.run(lambda: claims.claimed(name)) == []


def test_whoever_comes_later_gets_a_later_number(pod):
    def use():
        numbers = range(0x20, 0x24)
        first, second, third = (claims.claim_number("layer", numbers) for _ in range(3))
        first[1].close()
        fourth = claims.claim_number("layer", numbers)
        fifth = claims.claim_number("layer", numbers)  # none is behind all others any more
        try:
            claims.claim_number("layer", numbers)
        except OSError as error:
            return [each[0] for each in (first, second, third, fourth, fifth)], error.errno

    assert pod.run(use) == ([0x20, 0x21, 0x22, 0x23, 0x20], errno.EADDRINUSE)


def test_the_holder_of_a_port_is_told(pod):
    def use():
        texts = []
        for protocol, holder in (("tcp", "eve@laptop"), ("udp", "a b\n"), ("tcp", "")):
            claim = claims.PortClaim(protocol, 8080, holder)
            try:
                claims.PortClaim(protocol, 8080, "me")
            except OSError as error:
                texts.append((error.errno, error.strerror))
            claim.close()
            claims.PortClaim(protocol, 8080, "me").close()
        return texts

    texts = pod.run(use)
    assert [code for code, _ in texts] == [errno.EADDRINUSE] * 3
    assert re.fullmatch(r"port 8080 of this pod is stolen by eve@laptop since \d\d:\d\d UTC", texts[0][1])
    assert re.fullmatch(r"UDP port 8080 of this pod is stolen by a_b_ since \d\d:\d\d UTC", texts[1][1])
    assert texts[2][1] == "port 8080 of this pod is stolen by another session already"
