from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.agent import claims, iptables, nft, redirect


def test_names_differ_and_fit_a_chain():
    names = {redirect.new_name() for _ in range(10)}
    assert len(names) == 10
    assert all(len(f"{name}_70ffff") <= iptables.MAX_NAME for name in names)


def test_rules_of_the_dead_go_and_those_of_the_living_stay(pod):
    def use():
        dead, alive = redirect.new_name(), redirect.new_name()
        other = nft.NftRedirect("somebody_else", 4444, 1, use_owner=False)
        for name in (dead, alive):
            for layer in ("01", "701f90"):
                nft.NftRedirect(f"{name}_{layer}", 4444, 1, use_owner=False)
        with claims.claim(alive):
            redirect.remove_stale_rules()
            left = [name for _, name in nft.tables("")]
            redirect.remove_rules(alive)
        return left == [other.name, f"{alive}_01", f"{alive}_701f90"] and [name for _, name in nft.tables("")] == [other.name]

    assert pod.run(use)


def test_removing_rules_that_are_not_there_is_harmless(pod):
    pod.run(lambda: redirect.remove_rules(redirect.new_name()))
    redirect.remove_stale_rules() if os.geteuid() else None


def test_nf_tables_is_the_first_choice(pod):
    assert pod.run(lambda: type(redirect.open_redirect(redirect.new_name(), 4444, 1)).__name__) == "NftRedirect"


def test_iptables_is_the_second_choice_and_its_lack_is_told(monkeypatch):
    def refused(name, port, layer, protocol):
        raise OSError(errno.EPROTONOSUPPORT, "no such netlink")

    monkeypatch.setattr(nft, "NftRedirect", refused)
    monkeypatch.setattr(iptables, "IptablesRedirect", lambda *arguments: arguments)
    assert redirect.open_redirect("name", 1, 0x2A) == ("name_2a", 1, 0x2A, nft.TCP)
    assert redirect.open_redirect("name", 1, 0x70, 53) == ("name_700035", 1, 0x70, nft.UDP)
    monkeypatch.setattr(iptables, "IptablesRedirect", refused)
    with pytest.raises(OSError, match="nf_tables: no such netlink; iptables: no such netlink") as caught:
        redirect.open_redirect("name", 1, 1)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_without_the_right_no_other_way_is_tried(monkeypatch):
    def refused(name, port, layer, protocol):
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(nft, "NftRedirect", refused)
    monkeypatch.setattr(iptables, "IptablesRedirect", lambda *arguments: arguments)
    with pytest.raises(PermissionError, match="CAP_NET_ADMIN"):
        redirect.open_redirect("name", 1, 1)
