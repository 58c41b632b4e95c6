"""epoll, timers, and what happens when descriptors are reused under our hands."""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from typing import List

import pytest
from mirrord_trace.agent.pump.loop import READ, WRITE, Loop


def test_readiness_is_level_triggered(loop: Loop) -> None:
    one, other = socket.socketpair()
    seen: List[int] = []

    def ready(events: int) -> None:
        seen.append(events)
        if len(seen) == 3:
            loop.stop()

    with one, other:
        other.send(b"x")
        loop.watch(one.fileno(), READ, ready)
        loop.run()
        loop.unwatch(one.fileno())
    assert seen == [READ] * 3


def test_a_later_watch_replaces_the_earlier(loop: Loop) -> None:
    one, other = socket.socketpair()
    with one, other:
        loop.watch(one.fileno(), READ, lambda events: pytest.fail("replaced"))
        loop.watch(one.fileno(), WRITE, lambda events: loop.stop() if events == WRITE else pytest.fail("events"))
        loop.run()
        loop.unwatch(one.fileno())
        loop.unwatch(one.fileno())


def test_hang_up_is_both_and_cannot_be_masked(loop: Loop) -> None:
    one, other = socket.socketpair()
    seen: List[int] = []

    def ready(events: int) -> None:
        seen.append(events)
        loop.stop()

    with one:
        loop.watch(one.fileno(), 0, ready)
        other.close()
        loop.run()
        loop.unwatch(one.fileno())
    assert seen == [READ | WRITE]


def test_an_event_of_a_closed_file_does_not_reach_the_next_file_of_its_number(loop: Loop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    fresh: List[socket.socket] = []
    stale: List[int] = []

    def ready(index: int, events: int) -> None:
        # Both are ready in one batch: whichever comes first closes the other and takes over its number.
        victim = pairs[1 - index][0]
        number = victim.fileno()
        loop.unwatch(number)
        victim.close()
        fresh.extend(socket.socketpair())
        assert number in (fresh[0].fileno(), fresh[1].fileno())
        loop.watch(number, READ, stale.append)
        loop.unwatch(pairs[index][0].fileno())
        loop.call_later(0.01, loop.stop)

    for index, (one, other) in enumerate(pairs):
        other.send(b"x")
        loop.watch(one.fileno(), READ, functools.partial(ready, index))
    loop.run()
    assert stale == []
    for sock in [*pairs[0], *pairs[1], *fresh]:
        if sock.fileno() >= 0:
            loop.unwatch(sock.fileno())
        sock.close()


def test_timers_run_in_order_once_and_not_when_cancelled(loop: Loop) -> None:
    seen: List[str] = []
    loop.call_later(0.02, lambda: seen.append("late"))
    loop.call_later(0.0, lambda: seen.append("early"))
    cancelled = loop.call_later(0.01, lambda: seen.append("never"))
    cancelled.cancel()
    cancelled.cancel()
    assert cancelled.cancelled
    loop.call_later(0.03, loop.stop)
    started = time.monotonic()
    loop.run()
    assert seen == ["early", "late"]
    assert time.monotonic() - started >= 0.03


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    for _ in range(10_000):
        loop.call_later(30.0, lambda: None).cancel()
    assert len(loop._timers._heap) < 200


def test_call_soon_runs_before_the_next_wait_and_in_order(loop: Loop) -> None:
    seen: List[int] = []

    def second() -> None:
        seen.append(2)
        loop.call_soon(loop.stop)

    loop.call_soon(lambda: seen.append(1))
    loop.call_soon(second)
    loop.run()
    assert seen == [1, 2]


def test_call_soon_for_ever_does_not_shut_out_descriptors(loop: Loop) -> None:
    one, other = socket.socketpair()

    def again() -> None:
        loop.call_soon(again)

    with one, other:
        other.send(b"x")
        again()
        loop.watch(one.fileno(), READ, lambda events: loop.stop())
        loop.run()
        loop.unwatch(one.fileno())


def test_call_threadsafe_wakes_the_loop(loop: Loop) -> None:
    names: List[str] = []

    def here() -> None:
        names.append(threading.current_thread().name)
        if len(names) == 1000:
            loop.stop()

    def from_there() -> None:
        for _ in range(1000):
            loop.call_threadsafe(here)

    thread = threading.Thread(target=from_there)
    thread.start()
    loop.run()
    thread.join()
    assert set(names) == {threading.current_thread().name}


def test_an_exception_leaves_run_and_the_loop_can_go_on(loop: Loop) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    loop.call_soon(bug)
    with pytest.raises(ZeroDivisionError):
        loop.run()
    loop.call_soon(loop.stop)
    loop.run()


def test_stop_is_prompt(loop: Loop) -> None:
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: pytest.fail("after stop"))
    loop.run()


def test_close_gives_the_descriptors_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    Loop().close()
    assert len(os.listdir("/proc/self/fd")) == before
