"""The driver by a router that does as it is told."""

from __future__ import annotations

import errno
import functools

import pytest
from mirrord_trace.agent.http.actions import CLIENT, PEER, POD, Close, Join, Open, Send, SendEof
from mirrord_trace.agent.incoming import routed
from mirrord_trace.agent.incoming.routed import RoutedConnection
from mirrord_trace.agent.pump.loop import Loop


class FakeRouter:
    def __init__(self, **answers):
        self.wants_s = 0.0
        self.full = False
        self.told = []
        self.answers = answers  # "received 0" -> actions

    def _tell(self, *news):
        self.told.append(news)
        return self.answers.get(" ".join(str(part) for part in news[:2]).replace(" ", "_").strip(), [])

    def start(self):
        return self._tell("start")

    def received(self, connection, data):
        return self._tell("received", connection, data)

    def ended(self, connection):
        return self._tell("ended", connection)

    def failed(self, connection, code):
        return self._tell("failed", connection, code)

    def timeout(self):
        return self._tell("timeout")


class FakeLink:
    def __init__(self, driver, number):
        self.driver = driver
        self.number = number
        self.unsent_bytes = 0
        self.said = b""
        self.news = []
        self.paused = False

    def send(self, data):
        self.said += data

    def send_eof(self):
        self.news.append("eof")

    def close(self, code):
        self.news.append(("close", code))
        self.driver.gone(self.number)

    def pause(self, paused):
        self.paused = paused


class Setting:
    def __init__(self, router, refuse=()):
        self.loop = Loop()
        self.router = router
        self.links = {}
        self.ends = []
        self.over = []
        self.dropped = []
        self.refuse = refuse
        self.driver = RoutedConnection(
            self.loop, router, self._open, self.over.append, functools.partial(self.dropped.append, 1)
        )
        self.links[PEER] = FakeLink(self.driver, PEER)
        self.driver.begin(self.links[PEER])

    def _open(self, driver, action):
        if action.connection in self.refuse:
            raise OSError(errno.ECONNREFUSED, "no")
        self.ends.append(action.end)
        self.links[action.connection] = FakeLink(driver, action.connection)
        return self.links[action.connection]


@pytest.fixture
def new():
    made = []

    def make(refuse=(), **answers):
        made.append(Setting(FakeRouter(**answers), refuse))
        return made[-1]

    yield make
    for each in made:
        each.loop.close()


def test_actions_are_carried_out_in_order(new):
    it = new(
        received_0=[Open(1, POD), Send(1, b"ask"), SendEof(1)],
        received_1=[Send(PEER, b"answer"), Close(1), Close(PEER)],
    )
    it.driver.received(PEER, b"hello")
    assert it.links[1].said == b"ask"
    assert it.links[1].news == ["eof"]
    assert not it.driver.idle
    it.driver.received(1, b"well")
    assert it.links[PEER].said == b"answer"
    assert it.links[PEER].news == [("close", 0)]
    assert it.over == [it.driver]
    assert it.router.told == [("start",), ("received", 0, b"hello"), ("received", 1, b"well")]


def test_an_end_is_called_when_there_is_something_to_say_or_a_moment_later(new):
    it = new(start=[Open(1, POD)], received_0=[Open(2, CLIENT), Send(2, b"x"), Close(1)])
    assert it.ends == []
    it.driver.received(PEER, b"hello")
    assert it.ends == [CLIENT]
    waiting = new(start=[Open(1, POD)])
    waiting.loop.call_later(2 * routed.POSTPONED_S, waiting.loop.stop)
    waiting.loop.run()
    assert waiting.ends == [POD]


def test_what_cannot_be_opened_has_failed_after_all_that_was_said(new):
    it = new(refuse=(1,), received_0=[Open(1, CLIENT), Send(1, b"lost")], failed_1=[Send(PEER, b"502"), Close(PEER)])
    it.driver.received(PEER, b"hello")
    assert it.router.told[-1] == ("failed", 1, errno.ECONNREFUSED)
    assert it.links[PEER].said == b"502"
    assert it.over


def test_joined_connections_are_no_business_of_the_router(new):
    it = new(received_0=[Open(1, CLIENT), Join(PEER, 1)])
    it.driver.received(PEER, b"hello")
    told = len(it.router.told)
    it.driver.received(PEER, b"raw")
    it.driver.received(1, b"war")
    assert it.links[1].said == b"raw"
    assert it.links[PEER].said == b"war"
    it.driver.ended(PEER)
    assert it.links[1].news == ["eof"]
    it.driver.ended(1)
    assert it.over
    assert len(it.router.told) == told


def test_a_reset_of_one_is_one_of_the_joined(new):
    it = new(received_0=[Open(1, CLIENT), Join(PEER, 1)])
    it.driver.received(PEER, b"hello")
    it.driver.failed(1, errno.ECONNRESET)
    assert it.links[PEER].news == [("close", errno.ECONNRESET)]
    assert it.over


def test_whoever_feeds_a_slow_one_is_paused(new):
    it = new(received_0=[Open(1, CLIENT), Send(1, b"x")])
    it.driver.received(PEER, b"hello")
    it.links[1].unsent_bytes = routed.MOST_UNSENT_BYTES + 1
    it.router.answers["received_0"] = [Send(1, b"y")]
    it.driver.received(PEER, b"more")
    assert it.links[PEER].paused
    assert not it.links[1].paused
    it.driver.drained(1)
    assert it.links[PEER].paused
    it.links[1].unsent_bytes = 0
    it.driver.drained(1)
    assert not it.links[PEER].paused


def test_a_router_that_is_full_gets_no_more(new):
    it = new()
    it.router.full = True
    it.driver.received(PEER, b"hello")
    assert it.links[PEER].paused
    it.router.full = False
    it.driver.received(PEER, b"hello")
    assert not it.links[PEER].paused


def test_a_slow_copy_is_dropped_and_pauses_nobody(new):
    it = new(received_0=[Open(1, CLIENT, copy=True), Send(1, b"x")])
    it.driver.received(PEER, b"hello")
    it.links[1].unsent_bytes = routed.MOST_COPY_BYTES + 1
    it.router.answers["received_0"] = [Send(1, b"y")]
    it.driver.received(PEER, b"more")
    assert it.links[1].news == [("close", errno.ENOBUFS)]
    assert it.router.told[-1] == ("failed", 1, errno.ENOBUFS)
    assert it.dropped == [1]
    assert not it.links[PEER].paused


def test_time_is_told_when_it_is_wanted(new):
    it = new()
    it.router.wants_s = 0.01
    it.router._tell = lambda *news: (it.router.told.append(news), setattr(it.router, "wants_s", 0.0), it.loop.stop(), [])[3]
    it.driver._tell(lambda: None)
    it.loop.run()
    assert it.router.told[-1] == ("timeout",)
    assert it.driver._timer is None


def test_a_bug_costs_one_connection(new, capsys):
    it = new()
    it.router.received = lambda connection, data: 1 // 0
    it.driver.received(PEER, b"hello")
    assert it.links[PEER].news == [("close", errno.ECONNRESET)]
    assert it.over
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_it_can_be_finished_from_outside(new):
    it = new(received_0=[Open(1, CLIENT), Send(1, b"x")])
    it.driver.received(PEER, b"hello")
    it.driver.finish()
    it.driver.abort()
    assert it.links[1].news == [("close", 0)]
    assert it.over == [it.driver]
