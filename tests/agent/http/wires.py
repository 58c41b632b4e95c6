"""A driver for routers that does no I/O either: it carries out actions on lists, and checks that they make sense."""

from __future__ import annotations

import json
from collections import defaultdict

from mirrord_trace.agent.http.actions import CLIENT, PEER, POD, Close, Join, Open, Send, SendEof
from mirrord_trace.agent.http.router import open_router
from mirrord_trace.agent.http.rules import parse_rules

ME = {"filter": {"header": "^x-user: me$"}}


def rules_of(rules):
    return parse_rules(rules if isinstance(rules, str) else json.dumps(rules))


class Wires:
    """`sent`: bytes by connection, `opened`: its end, `closed`: errno, `eof`: a half-close was sent, `joined`: by Join."""

    def __init__(self, rules=ME, mirror=False, router=None):
        self.router = router if router is not None else open_router(rules_of(rules), mirror)
        self.sent = defaultdict(bytes)
        self.opened = {PEER: "peer"}
        self.copies = set()
        self.closed = {}
        self.eof = set()
        self.joined = {}
        self._told_of_end = set()
        self._do(self.router.start())

    # -- what happens -------------------------------------------------------------------------------------------------

    def peer(self, data):
        return self.says(PEER, data)

    def says(self, connection, data):
        """Bytes come from there; those of a joined connection go to the other."""
        if connection in self.joined:
            self.sent[self.joined[connection]] += data
        elif connection not in self.closed and connection not in self._told_of_end and data:
            self._do(self.router.received(connection, data))
        return self

    def ends(self, connection):
        if connection in self.joined:
            self.eof.add(self.joined[connection])
        elif connection not in self.closed and connection not in self._told_of_end:
            self._told_of_end.add(connection)
            self._do(self.router.ended(connection))
        return self

    def fails(self, connection, number=104):
        if connection not in self.closed and connection not in self.joined:
            self.closed[connection] = number
            self._do(self.router.failed(connection, number))
        return self

    def waits(self):
        assert self.router.wants_s > 0
        self._do(self.router.timeout())
        return self

    # -- what came of it ----------------------------------------------------------------------------------------------

    def last(self, end):
        """The number of the last connection opened to `end`."""
        return max(number for number, where in self.opened.items() if where == end)

    def count(self, end):
        return sum(where == end for where in self.opened.values())

    def to(self, end):
        """All that was sent to `end`, over whichever connections, copies excluded."""
        return b"".join(
            self.sent[number] for number, where in self.opened.items() if where == end and number not in self.copies
        )

    @property
    def answer(self):
        """What the peer got since the last time this was asked."""
        return self.sent.pop(PEER, b"")

    def _do(self, actions):
        assert isinstance(actions, list)
        for action in actions:
            if isinstance(action, Open):
                assert action.connection not in self.opened
                assert action.end in (POD, CLIENT)
                self.opened[action.connection] = action.end
                if action.copy:
                    self.copies.add(action.connection)
                continue
            for number in (action.a, action.b) if isinstance(action, Join) else (action.connection,):
                assert number in self.opened, action
                assert number not in self.closed, action
                assert number not in self.joined, action
            if isinstance(action, Send):
                assert action.data
                assert action.connection not in self.eof, action
                self.sent[action.connection] += action.data
            elif isinstance(action, SendEof):
                assert action.connection not in self.eof, action
                self.eof.add(action.connection)
            elif isinstance(action, Close):
                self.closed[action.connection] = action.errno
            else:
                self.joined[action.a], self.joined[action.b] = action.b, action.a
        if self.router.wants_s:
            assert 0 < self.router.wants_s <= 60
        assert isinstance(self.router.full, bool)


def get(target="/", *lines, method="GET"):
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: pod", *lines, "", ""]).encode()


def mine(target="/", *lines, method="GET"):
    return get(target, "X-User: me", *lines, method=method)


def ok(body=b"", *lines, status="200 OK"):
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body
