"""What messages are made of: the registry of their numbers, and the values that are no messages themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Type, TypeVar


class Message:
    """Base of everything that travels as a control message."""


MESSAGES: Dict[int, Type[Message]] = {}
"""Message number on the wire -> class. Numbers are never reused."""

M = TypeVar("M", bound=Type[Message])


def message(number: int) -> Callable[[M], M]:
    """Register a message class under its wire number."""

    def register(cls: M) -> M:
        if number in MESSAGES:
            raise ValueError(f"message number {number} is taken by {MESSAGES[number].__name__}")
        MESSAGES[number] = cls
        return cls

    return register


@dataclass(frozen=True)
class Address:
    """An internet socket address as the pod's kernel sees it: packed IPv4 (4 bytes) or IPv6 (16 bytes), and port."""

    ip: bytes
    port: int


ANYWHERE = Address(bytes(4), 0)
"""No address of one's own choice: what an unbound socket has."""


@dataclass(frozen=True)
class FileStat:
    """stat(2), statx(2): the fields of a pod file. Times in nanoseconds; `btime_ns` is -1 when the pod has none."""

    dev: int
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blksize: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int
