"""One line of `mirrord-trace doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warn", "missing"]


@dataclass(frozen=True)
class Finding:
    """`what` was found, `why` it matters, and the `remedy` if something is to be done.

    "warn": something works less well, or only some targets need it. "missing": mirrord-trace cannot do its work.
    """

    name: str
    level: Level
    what: str
    why: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """The fields by name, for -o json."""
        return asdict(self)
