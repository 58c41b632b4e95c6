"""The rules by a recording program in place of iptables, and by the real one where there is one."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from mirrord_trace.agent import iptables

NAME = "mirrord_trace_0123abcd"

# Keeps the chain's rules in files, one for each family; fails as iptables does where the test says so.
FAKE = """#!/bin/sh
shift 3
family=$(basename "$0")
echo "$family $*" >> "$LOG"
if [ -n "$DENY" ]; then echo "iptables: Permission denied (you must be root)" >&2; exit 4; fi
case "$1" in
    -S) echo "-P PREROUTING ACCEPT"; echo "-N mirrord_trace_0123abcd"; echo "-N OTHER";;
esac
exit 0
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    for program in iptables.PROGRAMS:
        path = tmp_path / program
        path.write_text(FAKE)
        path.chmod(0o755)
    log = tmp_path / "log"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(log))

    def taken():
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    return taken


def test_both_families_get_a_chain_and_two_jumps(calls):
    iptables.IptablesRedirect(NAME, 4444)
    expected = [
        f"-N {NAME}",
        f"-A {NAME} -m mark --mark 0x30a7 -j RETURN",
        f"-A {NAME} -p tcp --dport 4444 -j REDIRECT --to-ports 4444",
        f"-A PREROUTING -p tcp --syn -m addrtype --dst-type LOCAL -j {NAME}",
        f"-A OUTPUT -p tcp --syn -o lo -j {NAME}",
    ]
    assert calls() == [f"{program} {line}" for program in iptables.PROGRAMS for line in expected]


def test_ports_come_and_go_and_close_removes_the_rest(calls):
    redirect = iptables.IptablesRedirect(NAME, 4444)
    calls()
    redirect.add(80)
    redirect.remove(80)
    rule = f"{NAME} -p tcp --dport 80 -j REDIRECT --to-ports 4444"
    assert calls() == [f"{p} {verb} {rule}" for verb in ("-A", "-D") for p in iptables.PROGRAMS]
    redirect.refresh()
    redirect.close()
    assert [line.split()[1] for line in calls()] == ["-D", "-D", "-F", "-X"] * 2


def test_chains_of_agents_are_found(calls):
    assert iptables.chains("mirrord_trace_") == [NAME]
    assert iptables.chains("none") == []
    iptables.remove_chain(NAME)
    assert f"iptables -X {NAME}" in calls()


def test_a_denied_program_is_eperm_and_leaves_nothing(calls, monkeypatch):
    monkeypatch.setenv("DENY", "1")
    with pytest.raises(PermissionError):
        iptables.IptablesRedirect(NAME, 4444)
    assert f"ip6tables -X {NAME}" in calls()
    assert iptables.chains("mirrord_trace_") == []


def test_without_the_program_it_is_enoent(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(OSError) as caught:
        iptables.IptablesRedirect(NAME, 4444)
    assert caught.value.errno == errno.ENOENT


def test_names_fit_into_the_kernel():
    assert len(NAME) <= iptables.MAX_NAME


def test_the_real_program_takes_the_rules(pod):
    if shutil.which("iptables", path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
        pytest.skip("iptables is not installed")
    if os.geteuid() != 0:
        pytest.skip("iptables keeps a lock file: this needs root")

    def use():
        redirect = iptables.IptablesRedirect(NAME, 4444)
        redirect.add(80)
        redirect.remove(80)
        redirect.add(81)
        before = iptables.chains("mirrord_trace_")
        redirect.close()
        return before, iptables.chains("mirrord_trace_")

    assert pod.run(use) == ([NAME], [])
