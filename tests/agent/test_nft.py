"""Tables as the nft program sees them. Traffic goes through them in test_incoming.py."""

from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.agent import nft

NAME = "mirrord_trace_test"


def rules_with(pod, steps, **options):
    """The ruleset while a redirect exists on which `steps` was done; then the one after its owner's death."""
    reader, writer = os.pipe()
    go_reader, go_writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(go_writer)
            pod.enter()
            redirect = nft.NftRedirect(NAME, 4444, 0x70, **options)
            steps(redirect)
            os.write(writer, b"ok")
            os.read(go_reader, 1)
        finally:
            os._exit(0)
    os.close(writer)
    os.close(go_reader)
    assert os.read(reader, 2) == b"ok"
    alive = pod.ruleset()
    os.close(go_writer)
    os.close(reader)
    os.waitpid(child, 0)
    return alive, pod.ruleset()


def test_the_rules_say_what_they_should(pod):
    alive, after = rules_with(pod, lambda redirect: (redirect.add(80), redirect.add(8080), redirect.remove(80)))
    assert "table inet mirrord_trace_test" in alive
    assert "elements = { 8080 }" in alive
    common = "meta mark != 0x00003070-0x0000307f"
    assert f"{common} fib daddr type local tcp flags syn / fin,syn,rst,ack tcp dport @ports redirect to :4444" in alive
    assert f'{common} oif "lo" tcp flags syn / fin,syn,rst,ack tcp dport @ports redirect to :4444' in alive
    assert "hook prerouting priority 13" in alive  # -99 and the layer's number
    assert after == ""


def test_datagrams_have_no_first_packet(pod):
    alive, _ = rules_with(pod, lambda redirect: redirect.add(53), protocol=nft.UDP)
    assert 'meta mark != 0x00003070-0x0000307f oif "lo" udp dport @ports redirect to :4444' in alive


def test_without_inet_nat_there_is_a_table_for_each_family(pod):
    alive, after = rules_with(pod, lambda redirect: redirect.add(80), use_inet=False)
    assert "table ip mirrord_trace_test" in alive
    assert "table ip6 mirrord_trace_test" in alive
    assert alive.count("elements = { 80 }") == 2
    assert after == ""


def test_without_an_owner_ports_expire_and_can_be_refreshed(pod):
    def steps(redirect):
        assert redirect.refresh_s > 0
        redirect.refresh()
        redirect.add(80)
        redirect.add(81)
        redirect.refresh()
        redirect.remove(81)
        redirect.refresh()

    alive, after = rules_with(pod, steps, use_owner=False)
    assert "80 timeout 30s expires" in alive
    assert "81" not in alive
    assert "table inet mirrord_trace_test" in after  # nothing ties it to its maker

    def clean():
        found = nft.tables("mirrord_trace_")
        for family, name in found:
            nft.remove_table(family, name)
            nft.remove_table(family, name)
        return found, nft.tables("mirrord_trace_")

    assert pod.run(clean) == ([(nft.NFPROTO_INET, NAME)], [])
    assert pod.ruleset() == ""


def test_close_removes_everything(pod):
    def steps(redirect):
        redirect.add(80)
        redirect.close()

    assert rules_with(pod, steps, use_owner=False) == ("", "")
    assert rules_with(pod, steps) == ("", "")


def test_an_owned_redirect_needs_no_refresh(pod):
    def observe():
        redirect = nft.NftRedirect(NAME, 4444, 0x70)
        return redirect.owned, redirect.refresh_s

    owned, refresh_s = pod.run(observe)
    assert (refresh_s == 0) == owned


def test_without_cap_net_admin_it_is_eperm():
    if os.geteuid() == 0:
        pytest.skip("root has CAP_NET_ADMIN: this needs an ordinary user")
    for call in (lambda: nft.NftRedirect(NAME, 4444, 0x70), lambda: nft.tables("")):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EPERM
