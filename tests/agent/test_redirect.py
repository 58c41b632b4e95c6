from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.agent import iptables, nft, redirect


def test_a_claim_is_exclusive_until_it_is_closed():
    name = redirect.new_name()
    assert not redirect.is_claimed(name)
    with redirect.claim(name):
        assert redirect.is_claimed(name)
        with pytest.raises(OSError) as caught:
            redirect.claim(name)
        assert caught.value.errno == errno.EADDRINUSE
    assert not redirect.is_claimed(name)


def test_a_claim_is_of_one_network_namespace(pod):
    name = redirect.new_name()
    with redirect.claim(name):
        assert pod.run(lambda: redirect.is_claimed(name)) is False


def test_names_differ_and_fit_a_chain():
    names = {redirect.new_name() for _ in range(10)}
    assert len(names) == 10
    assert all(len(name) <= iptables.MAX_NAME for name in names)


def test_rules_of_the_dead_go_and_those_of_the_living_stay(pod):
    def use():
        dead, alive = redirect.new_name(), redirect.new_name()
        other = nft.NftRedirect("somebody_else", 4444, use_owner=False)
        for name in (dead, alive):
            nft.NftRedirect(name, 4444, use_owner=False)
        with redirect.claim(alive):
            redirect.remove_stale_rules()
            left = [name for _, name in nft.tables("")]
            redirect.remove_rules(alive)
        return left == [other.name, alive] and [name for _, name in nft.tables("")] == [other.name]

    assert pod.run(use)


def test_removing_rules_that_are_not_there_is_harmless(pod):
    pod.run(lambda: redirect.remove_rules(redirect.new_name()))
    redirect.remove_stale_rules() if os.geteuid() else None


def test_nf_tables_is_the_first_choice(pod):
    assert pod.run(lambda: type(redirect.open_redirect(redirect.new_name(), 4444)).__name__) == "NftRedirect"


def test_iptables_is_the_second_choice_and_its_lack_is_told(monkeypatch):
    def refused(name, port):
        raise OSError(errno.EPROTONOSUPPORT, "no such netlink")

    monkeypatch.setattr(nft, "NftRedirect", refused)
    monkeypatch.setattr(iptables, "IptablesRedirect", lambda name, port: (name, port))
    assert redirect.open_redirect("name", 1) == ("name", 1)
    monkeypatch.setattr(iptables, "IptablesRedirect", refused)
    with pytest.raises(OSError, match="nf_tables: no such netlink; iptables: no such netlink") as caught:
        redirect.open_redirect("name", 1)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_without_the_right_no_other_way_is_tried(monkeypatch):
    def refused(name, port):
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(nft, "NftRedirect", refused)
    monkeypatch.setattr(iptables, "IptablesRedirect", lambda name, port: (name, port))
    with pytest.raises(PermissionError, match="CAP_NET_ADMIN"):
        redirect.open_redirect("name", 1)
