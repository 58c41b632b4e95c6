"""The rules by a recording program in place of iptables, and by the real one where there is one."""

from __future__ import annotations

import errno
import os
import select
import shutil
import socket
import struct

import pytest
from mirrord_trace.agent import iptables, nft

NAME = "mirrord_trace_0123ab_70"

# Keeps the chain's rules in files, one for each family; fails as iptables does where the test says so.
FAKE = """#!/bin/sh
shift 3
family=$(basename "$0")
echo "$family $*" >> "$LOG"
if [ -n "$DENY" ]; then echo "iptables: Permission denied (you must be root)" >&2; exit 4; fi
case "$1" in
    -S) echo "-P PREROUTING ACCEPT"; echo "-N mirrord_trace_0123ab_70"; echo "-N OTHER";;
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
    iptables.IptablesRedirect(NAME, 4444, 0x70)
    expected = [
        f"-N {NAME}",
        f"-A {NAME} -m mark --mark 0x3070/0xfffffff0 -j RETURN",
        f"-A {NAME} -p tcp --dport 4444 -j REDIRECT --to-ports 4444",
        "-S PREROUTING",
        f"-I PREROUTING 1 -p tcp --syn -m addrtype --dst-type LOCAL -j {NAME}",
        "-S OUTPUT",
        f"-I OUTPUT 1 -p tcp --syn -o lo -j {NAME}",
    ]
    assert calls() == [f"{program} {line}" for program in iptables.PROGRAMS for line in expected]


def test_ports_come_and_go_and_close_removes_the_rest(calls):
    redirect = iptables.IptablesRedirect(NAME, 4444, 0x70)
    calls()
    redirect.add(80)
    redirect.remove(80)
    rule = f"{NAME} -p tcp --dport 80 -j REDIRECT --to-ports 4444"
    assert calls() == [f"{p} {verb} {rule}" for verb in ("-A", "-D") for p in iptables.PROGRAMS]
    redirect.refresh()
    redirect.close()
    assert [line.split()[1] for line in calls()] == ["-D", "-D", "-F", "-X"] * 2


def test_datagrams_have_no_first_packet(calls):
    redirect = iptables.IptablesRedirect(NAME, 4444, 0x70, nft.UDP)
    redirect.add(53)
    lines = calls()
    assert f"iptables -I OUTPUT 1 -p udp -o lo -j {NAME}" in lines
    assert f"ip6tables -A {NAME} -p udp --dport 53 -j REDIRECT --to-ports 4444" in lines


@pytest.mark.parametrize(("first", "last"), [(0x3001, 0x307F), (0x3070, 0x307F), (0x3013, 0x3050), (7, 7), (0, 255)])
def test_masks_stand_for_a_range(first, last):
    if first == 0:
        first = 1
    pairs = list(iptables.masks(first, last))
    matching = [n for n in range(0x4000) if any(n & mask == value for value, mask in pairs)]
    assert matching == list(range(first, last + 1))


def test_jumps_stand_in_the_order_of_layers():
    listing = """-P OUTPUT ACCEPT
-A OUTPUT -j SOMEBODY
-A OUTPUT -p tcp -o lo -j mirrord_trace_0123ab_20
-A OUTPUT -p udp -o lo -j mirrord_trace_0123ab_700035
"""
    assert [iptables._place(listing, layer) for layer in (1, 0x20, 0x21, 0x70)] == [2, 3, 3, 4]


def test_chains_of_agents_are_found(calls):
    assert iptables.chains("mirrord_trace_") == [NAME]
    assert iptables.chains("none") == []
    iptables.remove_chain(NAME)
    assert f"iptables -X {NAME}" in calls()


def test_a_denied_program_is_eperm_and_leaves_nothing(calls, monkeypatch):
    monkeypatch.setenv("DENY", "1")
    with pytest.raises(PermissionError):
        iptables.IptablesRedirect(NAME, 4444, 0x70)
    assert f"ip6tables -X {NAME}" in calls()
    assert iptables.chains("mirrord_trace_") == []


def test_without_the_program_it_is_enoent(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(OSError) as caught:
        iptables.IptablesRedirect(NAME, 4444, 0x70)
    assert caught.value.errno == errno.ENOENT


def test_names_fit_into_the_kernel():
    assert len(NAME) <= iptables.MAX_NAME


def test_the_real_program_takes_the_rules(pod):
    if shutil.which("iptables", path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
        pytest.skip("iptables is not installed")
    if os.geteuid() != 0:
        pytest.skip("iptables keeps a lock file: this needs root")

    def use():
        redirect = iptables.IptablesRedirect(NAME, 4444, 0x70)
        redirect.add(80)
        redirect.remove(80)
        redirect.add(81)
        before = iptables.chains("mirrord_trace_")
        redirect.close()
        return before, iptables.chains("mirrord_trace_")

    assert pod.run(use) == ([NAME], [])


def test_the_real_program_keeps_layers_apart(pod):
    if shutil.which("iptables", path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None:
        pytest.skip("iptables is not installed")
    if os.geteuid() != 0:
        pytest.skip("iptables keeps a lock file: this needs root")

    def listener(kind=socket.SOCK_STREAM):
        sock = socket.socket(socket.AF_INET, kind)
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        return sock, sock.getsockname()[1]

    def use():
        (container, port), (mirror, mirror_port), (thief, thief_port) = listener(), listener(), listener()
        late = iptables.IptablesRedirect("mirrord_trace_0123ab_70", thief_port, 0x70)
        early = iptables.IptablesRedirect("mirrord_trace_4567cd_01", mirror_port, 1)
        for redirect in (late, early):
            redirect.add(port)
        reached = []
        for mark in (0, nft.FIRST_MARK + 1, nft.FIRST_MARK + 0x70, nft.AGENT_MARK):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", mark))
                sock.connect(("127.0.0.1", port))
                found = select.select([container, mirror, thief], [], [], 10)[0]
                found[0].accept()[0].close()
                reached.append([container, mirror, thief].index(found[0]))
        for redirect in (late, early):
            redirect.close()
        return reached, iptables.chains("mirrord_trace_")

    assert pod.run(use) == ([1, 2, 0, 0], [])
