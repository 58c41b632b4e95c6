"""What the client tells an agent before it starts, inside the payload that it sends."""

from __future__ import annotations

import dataclasses
import json
import secrets
from dataclasses import dataclass, field
from typing import Tuple

SECRET_BYTES = 32


@dataclass(frozen=True)
class Options:
    """One agent's orders.

    The target is process `pid` as seen from where the agent runs, or else the container with the id `container_id` (64 hex
    digits, without a `containerd://`), or else, with both empty, the agent's own surroundings: a pod of its own.
    `target_is_init`: if no process shows that id, process 1 is the target (an ephemeral container that shares its process
    namespace; never set it where the agent sees the node's processes).
    `secret` is that of the protocol's handshake: unlike the boot secret it stands in no pod spec. `lease_s`: how long a
    session outlives its transport, if the agent listens for a new one. `log_level` as in logging.
    `holder` says whose session it is (user@host), to others who want a port that it has. `nodes`: IP addresses of the node,
    beside the pod's default gateway, from which the kubelet's probes may come.
    """

    secret: bytes = field(default_factory=lambda: secrets.token_bytes(SECRET_BYTES), repr=False)
    pid: int = 0
    container_id: str = ""
    target_is_init: bool = False
    lease_s: int = 60
    startup_timeout_s: int = 30
    log_level: int = 30
    holder: str = ""
    nodes: Tuple[str, ...] = ()

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps({**dataclasses.asdict(self), "secret": self.secret.hex()}, sort_keys=True).encode()

    @staticmethod
    def decode(encoded: bytes) -> "Options":
        """The reverse of `encode`."""
        fields = json.loads(encoded)
        return Options(**{**fields, "secret": bytes.fromhex(fields["secret"]), "nodes": tuple(fields["nodes"])})
