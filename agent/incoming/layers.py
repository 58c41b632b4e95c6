"""Several agents in one pod: who sees a connection first, and how it goes on from there.

    peer ──> mirrors ──> filtered stealers, in order of arrival ──> the unfiltered stealer ──> the pod's container

Each box is a *layer*: a number that an agent claims in the pod's network namespace (claims.py), with a table or chain, a
pair of listeners and a mark of its own. What a layer does not keep it connects to the original destination, with its mark;
only layers behind it redirect that. All unfiltered stealers share one number: a port can be stolen so only once, and
what they pass on is for the container.
"""

from __future__ import annotations

import contextlib
import enum
import socket
from typing import Callable, Dict, Generic, Optional, TypeVar

from .. import claims, nft
from ..redirect import Redirect
from .listeners import Listeners

P = TypeVar("P")
OpenRedirect = Callable[[str, int, int], Redirect]


class Kind(enum.Enum):
    """What a subscription wants of a connection."""

    MIRROR = "mirror"
    FILTER = "filter"
    STEAL = "steal"


STEAL_NUMBER = 0x70
_NUMBERS = {Kind.MIRROR: range(0x01, 0x20), Kind.FILTER: range(0x20, STEAL_NUMBER)}


def mark_of(number: int) -> int:
    """SO_MARK of what a layer passes on."""
    return nft.FIRST_MARK + number


class Layer(Generic[P]):
    """One layer of this agent: its number, its listeners, its redirect, and a plan for each port.

    Plans are read on the loop; all else changes under the lock of whoever owns this, rules on a thread.
    """

    def __init__(self, kind: Kind, listeners: Listeners) -> None:
        self.kind = kind
        self.listeners = listeners
        self.number = STEAL_NUMBER
        self.plans: Dict[int, P] = {}
        self.redirect: Optional[Redirect] = None
        self._number_claim: Optional[socket.socket] = None

    def open(self, agent: str, open_redirect: OpenRedirect) -> Redirect:
        """The redirect, made at the first call. May block for some seconds (iptables). OSError: has a text for the user."""
        if self.redirect is None:
            if self.kind is not Kind.STEAL and self._number_claim is None:
                self.number, self._number_claim = claims.claim_number("layer", _NUMBERS[self.kind])
            self.redirect = open_redirect(agent, self.listeners.port, self.number)
        return self.redirect

    def close(self) -> None:
        """Remove the rules, and give the number back."""
        redirect, self.redirect = self.redirect, None
        if redirect is not None:
            with contextlib.suppress(OSError):  # the guard tries again
                redirect.close()
        if self._number_claim is not None:
            self._number_claim.close()
