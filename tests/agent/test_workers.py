from __future__ import annotations

import threading

import pytest
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.workers import Workers


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.close()


def test_work_runs_elsewhere_and_its_outcome_here(loop):
    workers, seen = Workers(loop), []

    def work():
        seen.append(threading.get_ident())

        def outcome():
            seen.append(threading.get_ident())
            loop.stop()

        return outcome

    workers.submit(work)
    loop.run()
    assert seen[0] != threading.get_ident()
    assert seen[1] == threading.get_ident()


def test_one_that_hangs_does_not_stop_the_others(loop):
    workers, release, done = Workers(loop, threads=2), threading.Event(), []

    def hang():
        release.wait(20)
        return lambda: (done.append("hung"), loop.stop())

    def count(number):
        return lambda: lambda: (done.append(number), loop.stop() if number == 9 else None)

    workers.submit(hang)
    for number in range(10):
        workers.submit(count(number))
    loop.run()
    assert done == list(range(10))
    release.set()
    loop.run()
    assert done[-1] == "hung"


def test_one_thread_keeps_the_order(loop):
    workers, done = Workers(loop, threads=1), []
    for number in range(50):
        workers.submit(lambda number=number: lambda: (done.append(number), loop.stop() if number == 49 else None))
    loop.run()
    assert done == list(range(50))


def test_each_thread_is_prepared_before_its_first_work(loop):
    ready, seen = threading.local(), []
    workers = Workers(loop, threads=2, prepare=lambda: setattr(ready, "yes", True))

    def work():
        seen.append(ready.yes)
        return lambda: len(seen) == 5 and loop.stop()

    for _ in range(5):
        workers.submit(work)
    loop.run()
    assert seen == [True] * 5
