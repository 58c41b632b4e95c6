"""Decoded call -> route and reason. Pure: no tracee, no network, no file system."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field

from ..agent.wire.messages import Address
from .actions import Decision, Reason, Route
from .incoming_rules import IncomingConfig, decide_incoming
from .network_rules import OutgoingConfig, decide_outgoing
from .path_rules import FileConfig, PathRules

CACHE_LIMIT = 65536

# Name services of this machine that a libc asks before or instead of DNS. What they know is this machine's view of
# names; the nss modules take a missing socket as "unavailable" and go on to DNS.
_RESOLVER_SOCKET = re.compile(
    rb"(?:/var)?/run/(?:nscd/socket|avahi-daemon/socket|systemd/resolve/io\.systemd\.Resolve[^/]*)\Z"
)


@dataclass(frozen=True)
class PolicyConfig:
    """Everything that decisions depend on. The defaults are those of an empty configuration file.

    `dns`: the pod resolves names. `hostname`: the program sees the pod's. `ipv6`: IPv6 traffic is routed at all.
    """

    files: FileConfig = field(default_factory=FileConfig)
    outgoing: OutgoingConfig = field(default_factory=OutgoingConfig)
    incoming: IncomingConfig = field(default_factory=IncomingConfig)
    dns: bool = True
    hostname: bool = True
    ipv6: bool = True


class Policy:
    """The decisions of one session. Raises PatternError (path_rules) if a pattern of `config` does not compile."""

    def __init__(self, config: PolicyConfig) -> None:
        self.config = config
        self._rules = PathRules(config.files, remote_names=config.dns)
        self._files: dict[tuple[bytes, bool], Decision] = {}
        self._pod_ports = dict(config.incoming.port_mapping)
        self._hostname = Decision(Route.REMOTE, Reason.POD_HOSTNAME)
        if not config.hostname:
            self._hostname = Decision(Route.LOCAL, Reason.HOSTNAME_OFF)
        self._resolver_socket = Decision(Route.MISSING, Reason.LOCAL_RESOLVER_SOCKET)
        if not config.dns:
            self._resolver_socket = Decision(Route.LOCAL, Reason.DNS_OFF)
        self._local_socket = Decision(Route.LOCAL, Reason.NOT_INTERNET)

    def file(self, path: bytes, *, write: bool = False) -> Decision:
        """open(2), stat(2) and others: where `path` is, absolute and normalised (no `.`, `..`, `//`, trailing `/`).

        `write`: the call may change the file or its directory entry. `Decision.path` is the pod's path after
        `feature.fs.mapping`. A LOCAL decision has a path only if the mapping changed it: that local file is meant.
        """
        key = (path, write)
        decision = self._files.get(key)
        if decision is None:
            decision = self._rules.decide(path, write)
            if len(self._files) >= CACHE_LIMIT:
                self._files.clear()
            self._files[key] = decision
        return decision

    def outgoing(self, protocol: str, peer: Address, own_ports: Container[int]) -> Decision:
        """connect(2), sendto(2): `protocol` is "tcp" or "udp"; `own_ports`: where supervised programs listen."""
        config = self.config
        return decide_outgoing(
            config.outgoing, dns=config.dns, ipv6=config.ipv6, protocol=protocol, peer=peer, own_ports=own_ports
        )

    def incoming(self, port: int, local: Address) -> Decision:
        """listen(2): whether the pod's traffic for `pod_port(port)` comes to the program listening at `local`."""
        return decide_incoming(self.config.incoming, ipv6=self.config.ipv6, port=port, local=local)

    def pod_port(self, port: int) -> int:
        """The pod's port behind the program's `port`, by `feature.network.incoming.port_mapping`."""
        return self._pod_ports.get(port, port)

    def hostname(self) -> Decision:
        """uname(2): whose node name the program sees."""
        return self._hostname

    def unix_socket(self, path: bytes) -> Decision:
        """connect(2), AF_UNIX: `path` as in sun_path (abstract names begin with NUL). MISSING means ENOENT."""
        return self._resolver_socket if _RESOLVER_SOCKET.match(path) else self._local_socket
