from __future__ import annotations

from mirrord_trace.agent.http.rules import Sample
from mirrord_trace.agent.http.sample import Sampler


def test_all_by_default():
    assert all(Sampler(sample)() for sample in (None, Sample()) for _ in range(10))


def test_a_share():
    chances = iter([0.0, 0.24, 0.25, 0.9])
    sampler = Sampler(Sample(percent=25), chance=lambda: next(chances))
    assert [sampler() for _ in range(4)] == [True, True, False, False]
    assert not Sampler(Sample(percent=0))()


def test_a_rate():
    now = [0.0]
    sampler = Sampler(Sample(per_second=2), clock=lambda: now[0])
    assert [sampler() for _ in range(3)] == [True, True, False]
    now[0] = 0.5
    assert [sampler() for _ in range(2)] == [True, False]
    now[0] = 100
    assert [sampler() for _ in range(3)] == [True, True, False]
    slow = Sampler(Sample(per_second=0.1), clock=lambda: now[0])
    assert [slow() for _ in range(2)] == [True, False]
