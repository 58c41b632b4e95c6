"""Register layouts behind one interface."""

from __future__ import annotations

import platform

from ...errors import UsageError
from .aarch64 import AArch64
from .base import Arch
from .x86_64 import X8664

__all__ = ["Arch", "native"]


def native(machine: str | None = None) -> Arch:
    """The layout of this machine; UsageError on one that has none here."""
    machine = machine or platform.machine()
    if machine == "x86_64":
        return X8664()
    if machine == "aarch64":
        return AArch64()
    raise UsageError(f"mirrord-trace runs on x86-64 and aarch64 Linux, not on {machine}")
