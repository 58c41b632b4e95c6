"""Programs that go away from this machine's files, network or hostname into some of their own, alone or within others."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from mirrord_trace.supervisor.targets.demo import network
from runs import Ran, Runner

_IN_POD = "demo-pod-0\n"
_HERE = os.uname().nodename + "\n"
_URL = f"http://{network.GREETER[0]}/"
_LINE = "of its own (a sandbox?)"
_CHROMIUM = "chromium-headless-shell"

pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "-U", "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0,
    reason="this needs user namespaces",
)


def _told(ran: Ran) -> int:
    return ran.err.count(_LINE)


@pytest.mark.parametrize(
    "command",
    ["unshare -Urm cat /etc/hostname", "unshare -U cat /etc/hostname", "unshare -Urmn unshare -Ur cat /etc/hostname",
     "unshare -r chroot / cat /etc/hostname", "unshare -Urpf cat /etc/hostname"],
)  # fmt: skip
def test_files_are_the_pods_for_whoever_has_this_machines_root(runner: Runner, command: str) -> None:
    traced = runner.traced(*command.split())
    assert (traced.status, traced.out, _told(traced)) == (0, _IN_POD, 0), traced


@pytest.mark.skipif(os.geteuid() != 0, reason="to have capabilities that can be given up: this needs root")
def test_files_are_the_pods_for_who_has_given_up_capabilities(runner: Runner) -> None:
    traced = runner.traced("setpriv", "--bounding-set=-all", "--inh-caps=-all", "cat", "/etc/hostname")
    assert (traced.status, traced.out) == (0, _IN_POD), traced


# A new /proc does not have the way into the pod, nor does another root directory.
@pytest.mark.parametrize(
    "command",
    ["unshare -Urpf --mount-proc cat /etc/hostname",
     "bwrap --ro-bind / / --dev /dev --proc /proc --unshare-all cat /etc/hostname",
     "bwrap --ro-bind / / --tmpfs /proc cat /etc/hostname"],
)  # fmt: skip
def test_files_are_its_own_in_a_sandbox(runner: Runner, command: str) -> None:
    native, traced = runner.native(*command.split()), runner.traced(*command.split())
    assert native.status == 0, native
    assert (traced.status, traced.out, _told(traced)) == (0, native.out, 1), traced


def test_a_root_directory_of_its_own(runner: Runner) -> None:
    text = "mkdir -p new/etc && echo own > new/etc/hostname && cp $(command -v busybox) new/ && exec unshare -r chroot new "
    traced = runner.traced("sh", "-c", text + "/busybox cat /etc/hostname")
    assert (traced.status, traced.out, _told(traced)) == (0, "own\n", 1), traced


def test_the_hostname_of_a_namespace(runner: Runner) -> None:
    traced = runner.traced("unshare", "-Uru", "sh", "-c", "hostname; hostname other; hostname; cat /etc/hostname")
    assert (traced.status, traced.out) == (0, f"{_HERE}other\n{_IN_POD}"), traced


def test_the_network_of_a_namespace(runner: Runner) -> None:
    """It has a loopback of its own, and nothing else; outside, the same program is the pod's."""
    script = f"ip -brief link; ip link set lo up && curl -sS -m 5 {_URL}"
    native, traced = (run("unshare", "-Urn", "sh", "-c", script) for run in (runner.native, runner.traced))
    assert native.status == 7, native
    assert (traced.status, traced.out, _told(traced)) == (native.status, native.out, 1), traced
    assert "hello" in runner.traced("unshare", "-Urm", "curl", "-sS", _URL).out


@pytest.mark.skipif(shutil.which(_CHROMIUM) is None, reason=f"this needs {_CHROMIUM}")
def test_chromium(runner: Runner) -> None:
    """Zygotes, namespaces, chroot(2), filters, hundreds of threads: as an ordinary user with its whole sandbox."""
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    traced = runner.traced(_CHROMIUM, *options, "--dump-dom", _URL)
    assert traced.status == 0, traced
    assert "hello from the greeter" in traced.out, traced
