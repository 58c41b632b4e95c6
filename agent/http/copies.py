"""Copies of requests for the client's program (mirror), over HTTP/1. Its answers are dropped.

One copy at a time on each connection, and several connections when the program is slower than the pod's container: many
servers close after each answer, which would lose what was sent behind it.
"""

from __future__ import annotations

from typing import Dict, List, Optional

from .actions import CLIENT, Action, Close, Open, Send
from .answers import Answer
from .decide import Decider
from .heads import RequestHead

_MOST_CONNECTIONS = 16


class Copy:
    """One copied request on its way. `answer` and `sent`: the connection is free again when both are done."""

    def __init__(self, connection: int, request: RequestHead) -> None:
        self.connection = connection
        self.answer = Answer(request)
        self.sent = False


class Copies:
    """All connections for the copies of one peer's requests."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._free: List[int] = []
        self._busy: Dict[int, Copy] = {}
        self._closing = False

    def __bool__(self) -> bool:
        return bool(self._busy)

    def begin(self, request: RequestHead, out: List[Action]) -> Optional[Copy]:
        """A connection for a copy of `request`; None: too many are on their way, this one is left out."""
        if self._free:
            connection = self._free.pop()
        elif len(self._busy) >= _MOST_CONNECTIONS:
            return None
        else:
            connection = next(self._decider.numbers)
            out.append(Open(connection, CLIENT, copy=True))
        copy = Copy(connection, request)
        self._busy[connection] = copy
        return copy

    def send(self, copy: Copy, data: bytes, done: bool, out: List[Action]) -> None:
        """Bytes of the request, and whether they are the last."""
        if self._busy.get(copy.connection) is not copy:
            return
        if data:
            out.append(Send(copy.connection, data))
        copy.sent = copy.sent or done
        self._settle(copy, out)

    def received(self, connection: int, data: bytes) -> List[Action]:
        """The program's answer."""
        out: List[Action] = []
        copy = self._busy.get(connection)
        if copy is None:
            self._drop(connection, out)
        else:
            copy.answer.take(data)
            self._settle(copy, out)
        return out

    def ended(self, connection: int) -> List[Action]:
        """The program closes the connection."""
        out: List[Action] = []
        self._drop(connection, out)
        return out

    def failed(self, connection: int) -> List[Action]:
        """It is gone."""
        self._drop(connection, [])
        return []

    def close(self, out: List[Action], at_once: bool = False) -> None:
        """The peer is gone: answers under way may still end (unless `at_once`), so that the program can work in peace."""
        self._closing = True
        for connection in [*self._free, *(n for n, copy in self._busy.items() if at_once or not copy.sent)]:
            self._drop(connection, out)

    def _settle(self, copy: Copy, out: List[Action]) -> None:
        answer = copy.answer
        if answer.switched or answer.rest or (answer.done and (answer.last or self._closing)):
            self._drop(copy.connection, out)
        elif answer.done and copy.sent:
            del self._busy[copy.connection]
            self._free.append(copy.connection)

    def _drop(self, connection: int, out: List[Action]) -> None:
        copy = self._busy.pop(connection, None)
        if connection in self._free:
            self._free.remove(connection)
        elif copy is None:
            return
        out.append(Close(connection))
