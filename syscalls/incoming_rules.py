"""Which traffic of the pod comes to the program: mirrord's `feature.network.incoming`, as pure functions of addresses."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ..agent.wire.messages import Address
from .actions import Decision, Reason, Route
from .network_rules import ANY_IP, is_loopback, plain_ip


class IncomingMode(enum.Enum):
    """`feature.network.incoming.mode`, as far as it exists."""

    STEAL = "steal"
    OFF = "off"


@dataclass(frozen=True)
class IncomingConfig:
    """`feature.network.incoming`. `ports` (None: all) and `ignore_ports` are ports of the program, before mapping."""

    mode: IncomingMode = IncomingMode.STEAL
    ports: frozenset[int] | None = None
    ignore_ports: frozenset[int] = frozenset()
    ignore_localhost: bool = False
    port_mapping: tuple[tuple[int, int], ...] = ()


_LOCAL = {reason: Decision(Route.LOCAL, reason) for reason in Reason}
_INCOMING = Decision(Route.REMOTE, Reason.INCOMING)


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
