"""iptables(8): the redirect of subscribed ports on kernels that refuse nf_tables, if the agent's image has the binary.

Rules live in one nat chain of our own for each layer and family; the jumps to the chains of all agents stand in the order of
their layers, which the chains' names end with. A range of marks (see nft.py) is told by several masks. Nothing in the kernel
ties the rules to us, so they go by `close`, by the guard when the worker was killed, and by the next agent if both were.

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
from typing import Iterator, List, Tuple

from .nft import AGENT_MARK, FIRST_MARK, TCP, UDP

PROGRAMS = ("iptables", "ip6tables")
MAX_NAME = 28
"""The longest chain name that the kernel takes."""

_TIMEOUT_S = 20
_PROTOCOLS = {TCP: "tcp", UDP: "udp"}
_ALL_BITS = 0xFFFFFFFF
# A jump to an agent's chain, and the number of its layer.
_JUMP = re.compile(r" -j mirrord_trace_[0-9a-f]+_([0-9a-f]{2})[^ ]*$")


class IptablesRedirect:
    """The same as nft.NftRedirect. OSError: ENOENT without the binary, EPERM or EOPNOTSUPP when it cannot do it."""

    refresh_s = 0.0
    owned = False

    def __init__(self, name: str, listener_port: int, layer: int, protocol: int = TCP) -> None:
        self.name = name
        self._layer = layer
        self._protocol = protocol
        self._listener_port = listener_port
        self._programs: List[str] = []
        failure = OSError(errno.ENOENT, "no iptables program")
        for program in PROGRAMS:
            try:
                self._install(program)
                self._programs.append(program)
            except OSError as error:
                _remove(program, name, protocol)
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
            _remove(program, self.name, self._protocol)

    def _install(self, program: str) -> None:
        _run(program, "-N", self.name)
        for mark, mask in masks(FIRST_MARK + self._layer, AGENT_MARK):
            _run(program, "-A", self.name, "-m", "mark", "--mark", f"{mark:#x}/{mask:#x}", "-j", "RETURN")
        _run(program, "-A", self.name, *self._rule(self._listener_port))
        for jump in _jumps(self.name, self._protocol):
            place = _place(_run(program, "-S", jump[0]), self._layer)
            _run(program, "-I", jump[0], str(place), *jump[1:])

    def _rule(self, port: int) -> List[str]:
        protocol = _PROTOCOLS[self._protocol]
        return ["-p", protocol, "--dport", str(port), "-j", "REDIRECT", "--to-ports", str(self._listener_port)]


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
        _remove(program, name, TCP, UDP)


def masks(first: int, last: int) -> Iterator[Tuple[int, int]]:
    """(value, mask) pairs that together stand for the numbers `first` to `last`."""
    while first <= last:
        size = first & -first
        while first + size - 1 > last:
            size //= 2
        yield first, _ALL_BITS & ~(size - 1)
        first += size


# Where in a chain (as -S lists it) the jump of a layer belongs: before that of the first later layer, else at the end.
def _place(listing: str, layer: int) -> int:
    rules = [line for line in listing.splitlines() if line.startswith("-A")]
    for place, rule in enumerate(rules, 1):
        jump = _JUMP.search(rule)
        if jump is not None and int(jump.group(1), 16) > layer:
            return place
    return len(rules) + 1


def _jumps(name: str, protocol: int) -> List[List[str]]:
    # From other pods, from inside the pod.
    packets = ["-p", "tcp", "--syn"] if protocol == TCP else ["-p", "udp"]
    return [
        ["PREROUTING", *packets, "-m", "addrtype", "--dst-type", "LOCAL", "-j", name],
        ["OUTPUT", *packets, "-o", "lo", "-j", name],
    ]


# Best effort, each step by itself: any of them may be missing.
def _remove(program: str, name: str, *protocols: int) -> None:
    for protocol in protocols:
        for jump in _jumps(name, protocol):
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
