"""What the user may set about the cluster and the agent in it. Frozen values; the configuration builds them."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_IMAGE = "python:3-slim"


@dataclass(frozen=True)
class KubeSettings:
    """Which cluster and namespace. None: what the kubeconfig says."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    accept_invalid_certificates: bool = False


@dataclass(frozen=True)
class AgentSettings:
    """How the agent runs in the cluster.

    `image` needs a `python3` of 3.9 or later and nothing else. `namespace` (of the agent's own pod) None: the target's.
    `ephemeral` True: an ephemeral container in the target pod; False: a privileged pod on the target's node; None:
    the pod if the rights suffice, else the ephemeral container.
    """

    image: str = DEFAULT_IMAGE
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    namespace: str | None = None
    ephemeral: bool | None = None
    startup_timeout_s: float = 60.0
