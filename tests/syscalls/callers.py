"""What the tests of socket calls share: a caller with real sockets, in a session whose relay is a fake."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from mirrord_trace.agent.wire.messages import Address, Message
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.network_rules import OutgoingConfig, parse_rule
from mirrord_trace.syscalls.policy import Policy, PolicyConfig
from mirrord_trace.syscalls.requests import Verdict
from script import FakeAddresses, FakeRelay, FakeTask, Script, session

AT = 0x1000
"""Where the caller's sockaddr is, or is to be put."""

LENGTH_AT = 0x2000
"""Where the caller's socklen_t is."""

FD = 7


def address(text: str, port: int) -> Address:
    """An Address from text."""
    return Address(socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text), port)


def inet(text: str, port: int) -> bytes:
    """A struct sockaddr_in, or sockaddr_in6 if the text has a colon."""
    if ":" in text:
        return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI16sI", port, 0, socket.inet_pton(socket.AF_INET6, text), 0)
    return struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", port, socket.inet_aton(text))


def number(value: int) -> bytes:
    """An int in memory."""
    return struct.pack("=I", value)


def local_only(*rules: str) -> Policy:
    """The real policy; what `rules` name is local, all else leaves from the pod."""
    return Policy(PolicyConfig(outgoing=OutgoingConfig(only_local=tuple(parse_rule(rule) for rule in rules))))


class Caller:
    """A thread with one socket as `FD`. `own` stays the test's."""

    def __init__(self, own: socket.socket, context: Context | None = None) -> None:
        self.own = own
        self.context = context if context is not None else session()
        self.task = FakeTask()
        self.holds(FD, own)

    def holds(self, fd: int, own: socket.socket) -> None:
        """It has (a duplicate of) this socket, too."""
        self.task.fds[fd] = os.dup(own.fileno())

    def calls(self, handler: Any, args: Sequence[int] = (), memory: dict[int, bytes] | None = None) -> Script:
        """One call; `args` without the fd."""
        return Script(handler, (FD, *args), memory=memory, task=self.task, context=self.context)

    def names(self, handler: Any, peer: bytes) -> Script:
        """A call that takes an address as its second and third argument."""
        return self.calls(handler, (AT, len(peer)), {AT: peer})

    def asks_name(self, handler: Any, room: int = 128) -> Script:
        """A call that is given an address by its second and third argument."""
        return self.calls(handler, (AT, LENGTH_AT), {AT: bytes(128), LENGTH_AT: number(room)})

    @property
    def inode(self) -> int:
        """Of the socket."""
        return os.fstat(self.own.fileno()).st_ino

    @property
    def relay(self) -> FakeRelay:
        """The fake that `context.relay` is."""
        return cast(FakeRelay, self.context.relay)

    @property
    def addresses(self) -> FakeAddresses:
        """The fake that `context.addresses` is."""
        return cast(FakeAddresses, self.context.addresses)

    def told(self) -> list[Message]:
        """What the relay has been told since this was last asked."""
        messages = [message for message, _ in self.relay.told]
        self.relay.told.clear()
        return messages

    def verdict(self, errno: int, local: Address, peer: Address, key: int = 1) -> None:
        """The relay has sent its verdict: it arrives with the next drain."""
        self.relay.on_drain = lambda: self.context.sockets.decided(Verdict(key, errno, local, peer))


@contextmanager
def full_listener(family: int = socket.AF_INET) -> Iterator[int]:
    """The port of a loopback listener to which every connect stays pending."""
    with socket.socket(family) as listener, socket.socket(family) as filler:
        listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        yield listener.getsockname()[1]
