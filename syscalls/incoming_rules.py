"""Which traffic of the pod comes to the program: mirrord's `feature.network.incoming`, as pure functions of addresses."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..agent.wire.messages import Address
from .actions import Decision, Reason, Route
from .network_rules import ANY_IP, is_loopback, plain_ip


class IncomingMode(enum.Enum):
    """`feature.network.incoming.mode`. MIRROR: the pod's container answers, the program gets a copy."""

    MIRROR = "mirror"
    STEAL = "steal"
    OFF = "off"


DEFAULT_MODE = IncomingMode.MIRROR
"""Where nobody says which: as in mirrord."""


@dataclass(frozen=True)
class Subscription:
    """What to ask the agent for a port: the fields of `Subscribe`."""

    mirror: bool = False
    rules: str = ""
    flush: bool = True


@dataclass(frozen=True)
class IncomingConfig:
    """`feature.network.incoming`. `ports` (None: all) and `ignore_ports` are ports of the program, before mapping.

    `port_mapping`: (port of the program, port of the pod). `listen_ports`: (port that the program asks for, port that it
    really listens on). `rules` are those of the pod ports in `filter_ports` (None: all), `plain_rules` of all others.
    `flush`: connections that the pod's container has are reset. `fail_if_taken`: listen(2) fails for a port that another
    session has; otherwise the program goes on without the pod's traffic.
    """

    mode: IncomingMode = DEFAULT_MODE
    ports: frozenset[int] | None = None
    ignore_ports: frozenset[int] = frozenset()
    ignore_localhost: bool = False
    port_mapping: tuple[tuple[int, int], ...] = ()
    listen_ports: tuple[tuple[int, int], ...] = ()
    filter_ports: frozenset[int] | None = None
    rules: str = ""
    plain_rules: str = ""
    flush: bool = True
    fail_if_taken: bool = True


_LOCAL = {reason: Decision(Route.LOCAL, reason) for reason in Reason}
_INCOMING = Decision(Route.REMOTE, Reason.INCOMING)
PORT_ZERO = _LOCAL[Reason.PORT_ZERO]


def decide_incoming(config: IncomingConfig, *, ipv6: bool, port: int, local: Address) -> Decision:
    """listen(2): whether the pod's traffic for `port`, on which the program listens at `local`, comes to it."""
    ip = plain_ip(local.ip)
    if config.mode is IncomingMode.OFF or (len(ip) == 16 and ip not in ANY_IP and not ipv6):
        return _LOCAL[Reason.INCOMING_OFF]
    if config.ignore_localhost and is_loopback(ip):
        return _LOCAL[Reason.IGNORE_LOCALHOST]
    if port in config.ignore_ports or (config.ports is not None and port not in config.ports):
        return _LOCAL[Reason.INCOMING_IGNORED]
    return _INCOMING


def subscription(config: IncomingConfig, pod_port: int) -> Subscription:
    """What to ask the agent for this port of the pod. Connections are flushed only to be stolen."""
    mirror = config.mode is IncomingMode.MIRROR
    is_filtered = config.filter_ports is None or pod_port in config.filter_ports
    return Subscription(mirror, config.rules if is_filtered else config.plain_rules, config.flush and not mirror)
