"""The TARGET argument for a pod: `pod/NAME[/container/CONTAINER]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import EXIT_USAGE, UsageError

_POD = ("pod", "pods", "po")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_FORM = "pod/NAME or pod/NAME/container/CONTAINER"


@dataclass(frozen=True)
class PodName:
    """A pod and, if the user chose one, its container."""

    pod: str
    container: str | None = None

    def __str__(self) -> str:
        return f"pod/{self.pod}" + (f"/container/{self.container}" if self.container else "")


def parse(target: str) -> PodName:
    """Read the TARGET of a Kubernetes pod; UsageError with the right form."""
    parts = target.split("/")
    if parts[0] not in _POD or len(parts) not in (2, 4) or (len(parts) == 4 and parts[2] != "container"):
        raise UsageError(f"{target!r} is not a target in a cluster; write {_FORM}", EXIT_USAGE)
    for name in parts[1::2]:
        if _NAME.fullmatch(name) is None:
            raise UsageError(f"{name!r} in {target!r} cannot be a Kubernetes name; write {_FORM}", EXIT_USAGE)
    return PodName(parts[1], parts[3] if len(parts) == 4 else None)
