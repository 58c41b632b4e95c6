"""What a router wants done, and what it is: the interface between the protocols of this package and whoever does the I/O.

A router stands behind one connection that was accepted for a subscribed port: the *peer's*, number 0. It may have more
connections opened, to an *end*: the pod's own container, or the client's program. It is told what comes in, and answers
with actions that are to be carried out in order. It does no I/O, keeps no time and raises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Protocol, Union

POD = "pod"
"""End: the pod's own container, where the connection would have gone."""

CLIENT = "client"
"""End: the program that the client runs."""

PEER = 0
"""Number of the connection that was accepted."""


@dataclass
class Open:
    """Start connecting to `end`; the connection has this number from now on, and `Send` may follow at once.

    `copy`: what is sent there is a copy (mirror). It must never hold back the peer: if more than some bound is unsent, the
    driver resets it and calls `failed`.
    """

    connection: int
    end: str
    copy: bool = False


@dataclass
class Send:
    """send(2), after everything sent before."""

    connection: int
    data: bytes


@dataclass
class SendEof:
    """shutdown(2) SHUT_WR, after what was sent."""

    connection: int


@dataclass
class Close:
    """close(2). `errno` 0: after what was sent; else a reset, at once. Nothing of this connection is to be told any more."""

    connection: int
    errno: int = 0


@dataclass
class Join:
    """From now on raw bytes between the two, half-close and reset included, after what was sent so far.

    The router is done with the two; it goes on with others it has (copies), which are to be told of.
    """

    a: int
    b: int


Action = Union[Open, Send, SendEof, Close, Join]


class Router(Protocol):
    """What decides. `start` comes first, once. After each call the driver looks at `wants_s` and `full`.

    `wants_s`: if > 0, `timeout` is to be called that many seconds after it became so, unless it is 0 again by then;
    further calls do not put it off. After `timeout` it counts anew.
    `full`: nothing is to be read from the peer while it is set. Besides, the driver reads from a connection only while
    what it has to send elsewhere is within bounds.
    The router is done when each of its connections is closed or joined.
    """

    @property
    def wants_s(self) -> float:
        """See above."""

    @property
    def full(self) -> bool:
        """See above."""

    def start(self) -> List[Action]:
        """The peer's connection was accepted."""

    def received(self, connection: int, data: bytes) -> List[Action]:
        """Bytes of any number and cut."""

    def ended(self, connection: int) -> List[Action]:
        """EOF from there: nothing more comes, but it may still be sent to."""

    def failed(self, connection: int, errno: int) -> List[Action]:
        """It was reset, or could not be opened; it is closed already."""

    def timeout(self) -> List[Action]:
        """See `wants_s`."""
