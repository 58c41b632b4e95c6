from __future__ import annotations

import os

from mirrord_trace.supervisor.fuse.generation import Generation


def test_it_counts() -> None:
    generation = Generation()
    assert generation.now == 0
    for count in range(1, 4):
        generation.advance()
        assert generation.now == count


def test_another_process_sees_it() -> None:
    """The relay counts, the tracer looks."""
    generation = Generation()
    child = os.fork()
    if not child:
        generation.advance()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert generation.now == 1


def test_two_are_two() -> None:
    one, other = Generation(), Generation()
    one.advance()
    assert (one.now, other.now) == (1, 0)
