"""Decoded call -> route and reason. Pure: no tracee, no network, no file system."""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass, field

from ..agent.wire.messages import Address
from .actions import Decision, Reason, Route
from .incoming_rules import IncomingConfig, Subscription, decide_incoming, subscription
from .network_rules import OutgoingConfig, decide_outgoing
from .path_rules import FileConfig, PathRules
from .unix_rules import UnixRules

CACHE_LIMIT = 65536


@dataclass(frozen=True)
class PolicyConfig:
    """Everything that decisions depend on. The defaults are those of an empty configuration file.

    `unix_streams`: patterns (unix_rules). `dns`: the pod resolves names. `hostname`: the program sees the pod's. `ipv6`:
    IPv6 traffic is routed at all. `interfaces`: the program sees the pod's interfaces and routes.
    """

    files: FileConfig = field(default_factory=FileConfig)
    outgoing: OutgoingConfig = field(default_factory=OutgoingConfig)
    incoming: IncomingConfig = field(default_factory=IncomingConfig)
    unix_streams: tuple[str, ...] = ()
    dns: bool = True
    interfaces: bool = True
    hostname: bool = True
    ipv6: bool = True


class Policy:
    """The decisions of one session. Raises PatternError (path_rules) if a pattern of `config` does not compile."""

    def __init__(self, config: PolicyConfig) -> None:
        self.config = config
        self._rules = PathRules(config.files, remote_names=config.dns, remote_interfaces=config.interfaces)
        self._files: dict[tuple[bytes, bool], Decision] = {}
        self._pod_ports = dict(config.incoming.port_mapping)
        self._listen_ports = dict(config.incoming.listen_ports)
        self._interfaces = Decision(Route.REMOTE, Reason.POD_INTERFACES)
        if not config.interfaces:
            self._interfaces = Decision(Route.LOCAL, Reason.INTERFACES_OFF)
        self.wants_names = config.outgoing.wants_names
        self._hostname = Decision(Route.REMOTE, Reason.POD_HOSTNAME)
        if not config.hostname:
            self._hostname = Decision(Route.LOCAL, Reason.HOSTNAME_OFF)
        self._unix = UnixRules(config.unix_streams, dns=config.dns)

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

    def local_trees(self) -> tuple[bytes, ...]:
        """See `PathRules.local_trees`."""
        return self._rules.local_trees()

    def outgoing(self, protocol: str, peer: Address, own_ports: Container[int], names: Collection[str] = ()) -> Decision:
        """connect(2), sendto(2): `protocol` is "tcp", "udp" or "icmp"; `own_ports`: where supervised programs listen.

        `names`: by which names the program found the address; needed only if `wants_names`.
        """
        config = self.config
        return decide_outgoing(
            config.outgoing,
            dns=config.dns,
            ipv6=config.ipv6,
            protocol=protocol,
            peer=peer,
            own_ports=own_ports,
            names=names,
        )

    def other_protocols(self) -> Decision:
        """socket(2): whether internet traffic other than TCP, UDP and ICMP echo would have to leave from the pod."""
        outgoing = self.config.outgoing
        if outgoing.tcp or outgoing.udp:
            return Decision(Route.REMOTE, Reason.OUTGOING)
        return Decision(Route.LOCAL, Reason.OUTGOING_OFF)

    def incoming(self, port: int, local: Address) -> Decision:
        """listen(2): whether the pod's traffic for `pod_port(port)` comes to the program listening at `local`."""
        return decide_incoming(self.config.incoming, ipv6=self.config.ipv6, port=port, local=local)

    def pod_port(self, port: int) -> int:
        """The pod's port behind the program's `port`, by `feature.network.incoming.port_mapping`."""
        return self._pod_ports.get(port, port)

    def listen_port(self, port: int) -> int:
        """The port of this machine for the program's `port`, by `feature.network.incoming.listen_ports`."""
        return self._listen_ports.get(port, port)

    def subscription(self, pod_port: int) -> Subscription:
        """What to ask the agent for this port of the pod."""
        return subscription(self.config.incoming, pod_port)

    def fails_if_taken(self) -> bool:
        """Whether listen(2) fails for a pod port that another session has, by `on_concurrent_steal`."""
        return self.config.incoming.fail_if_taken

    def interfaces(self) -> Decision:
        """netlink(7), netdevice(7): whose interfaces, addresses and routes the program sees."""
        return self._interfaces

    def hostname(self) -> Decision:
        """uname(2): whose node name the program sees."""
        return self._hostname

    def unix_socket(self, path: bytes) -> Decision:
        """connect(2), AF_UNIX: `path` as in sun_path (abstract names begin with NUL). MISSING means ENOENT."""
        return self._unix.decide(path)
