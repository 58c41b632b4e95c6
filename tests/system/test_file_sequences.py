"""The same random sequences of file operations give the same results, errnos and trees here and on the pod's tree.

MIRRORD_TRACE_SEQUENCES says how many, MIRRORD_TRACE_SEQUENCES_SEED which: 10000 take about a quarter of an hour.
"""

from __future__ import annotations

import os

import pytest
from file_sequences_comparison import Comparison
from file_sequences_strategy import sequences
from runs import Runner

_NUMBER = int(os.environ.get("MIRRORD_TRACE_SEQUENCES", "300"))
_SEED = int(os.environ.get("MIRRORD_TRACE_SEQUENCES_SEED", "1"))
_BATCH = 250
_SHOWN = 2
_NOTHING_KEPT = {"attribute_seconds": 0, "negative_seconds": 0, "write_behind": False, "readonly_file_buffer": 0}


@pytest.mark.timeout(120 + _NUMBER)
def test_random_sequences_see_the_same(runner: Runner) -> None:
    _compare(Comparison(runner), _NUMBER, 0)


@pytest.mark.timeout(120 + _NUMBER)
def test_random_sequences_see_the_same_where_nothing_is_kept(runner: Runner) -> None:
    _compare(Comparison(runner, **_NOTHING_KEPT), max(_NUMBER // 5, 1), 500_000)


def _compare(comparison: Comparison, number: int, first: int) -> None:
    for start in range(0, number, _BATCH):
        seed = _SEED * 1_000_000 + first + start
        found = list(comparison.differences(sequences(min(_BATCH, number - start), seed)))
        shortest = [f"{comparison.shortened(difference)}" for difference in found[:_SHOWN]]
        assert not found, f"{len(found)} sequences of seed {seed} differ, such as\n" + "\n\n".join(shortest)
