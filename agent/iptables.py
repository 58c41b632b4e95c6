"""iptables(8): the redirect of stolen ports on kernels that refuse nf_tables, if the agent's image has the binary.

Rules live in one nat chain of our own for each family. Nothing in the kernel ties them to us, so they go by `close`, by the
guard when the worker was killed, and by the next agent if both were.

The kernel tracks connections in a network namespace only while some rule needs it to. With the last REDIRECT gone the
connections handed over before would no longer be translated and break. So one that changes nothing always stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import subprocess
from typing import List

from .nft import AGENT_MARK

PROGRAMS = ("iptables", "ip6tables")
MAX_NAME = 28
"""The longest chain name that the kernel takes."""

_TIMEOUT_S = 20


class IptablesRedirect:
    """The same as nft.NftRedirect. OSError: ENOENT without the binary, EPERM or EOPNOTSUPP when it cannot do it."""

    refresh_s = 0.0
    owned = False

    def __init__(self, name: str, listener_port: int) -> None:
        self.name = name
        self._listener_port = listener_port
        self._programs: List[str] = []
        failure = OSError(errno.ENOENT, "no iptables program")
        for program in PROGRAMS:
            try:
                self._install(program)
                self._programs.append(program)
            except OSError as error:
                _remove(program, name)
                failure = error
        if not self._programs:
            raise failure

    def add(self, port: int) -> None:
        """Redirect new connections to `port`."""
        for program in self._programs:
            _run(program, "-A", self.name, *self._rule(port))

    def remove(self, port: int) -> None:
        """Leave new connections to `port` alone again. Those already redirected stay so."""
        for program in self._programs:
            _run(program, "-D", self.name, *self._rule(port))

    def refresh(self) -> None:
        """Nothing here times out."""

    def close(self) -> None:
        """Remove the chains."""
        for program in self._programs:
            _remove(program, self.name)

    def _install(self, program: str) -> None:
        _run(program, "-N", self.name)
        _run(program, "-A", self.name, "-m", "mark", "--mark", hex(AGENT_MARK), "-j", "RETURN")
        _run(program, "-A", self.name, *self._rule(self._listener_port))
        for jump in _jumps(self.name):
            _run(program, "-A", *jump)

    def _rule(self, port: int) -> List[str]:
        return ["-p", "tcp", "--dport", str(port), "-j", "REDIRECT", "--to-ports", str(self._listener_port)]


def chains(prefix: str) -> List[str]:
    """Names of the nat chains that start with `prefix`, in any family. Empty without the binary or the right."""
    found = set()
    for program in PROGRAMS:
        try:
            listing = _run(program, "-S")
        except OSError:
            continue
        found.update(re.findall(rf"^-N ({re.escape(prefix)}\S*)$", listing, re.MULTILINE))
    return sorted(found)


def remove_chain(name: str) -> None:
    """Remove the chains of a dead agent, and the jumps to them."""
    for program in PROGRAMS:
        _remove(program, name)


def _jumps(name: str) -> List[List[str]]:
    # From other pods, from inside the pod.
    return [
        ["PREROUTING", "-p", "tcp", "--syn", "-m", "addrtype", "--dst-type", "LOCAL", "-j", name],
        ["OUTPUT", "-p", "tcp", "--syn", "-o", "lo", "-j", name],
    ]


# Best effort, each step by itself: any of them may be missing.
def _remove(program: str, name: str) -> None:
    for jump in _jumps(name):
        _quietly(program, "-D", *jump)
    _quietly(program, "-F", name)
    _quietly(program, "-X", name)


def _quietly(program: str, *arguments: str) -> None:
    with contextlib.suppress(OSError):
        _run(program, *arguments)


def _run(program: str, *arguments: str) -> str:
    path = shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
    if path is None:
        raise OSError(errno.ENOENT, f"{program} is not installed")
    try:
        done = subprocess.run(
            [path, "-w", "-t", "nat", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{program} did not end within {_TIMEOUT_S} s") from error
    if done.returncode != 0:
        denied = "ermission denied" in done.stderr or "not permitted" in done.stderr
        raise OSError(errno.EPERM if denied else errno.EOPNOTSUPP, done.stderr.strip())
    return done.stdout
