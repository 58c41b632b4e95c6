from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.wire.errors import RemoteProtocolError
from mirrord_trace.agent.wire.stats import GONE, STAT_BYTES, pack_stat, pack_stats, unpack_stats
from mirrord_trace.agent.wire.values import FileStat

U32, U64, I64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)
STATS = st.builds(FileStat, U64, U64, U32, U32, U32, U32, U64, U64, U32, U64, I64, I64, I64, I64)


@given(st.lists(STATS, max_size=5))
def test_they_come_back_as_they_were(stats: list[FileStat]) -> None:
    packed = pack_stats(stats)
    assert len(packed) == STAT_BYTES * len(stats)
    assert unpack_stats(packed) == stats


def test_the_layout() -> None:
    packed = pack_stat(FileStat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, -1))
    sizes = (8, 8, 4, 4, 4, 4, 8, 8, 4, 8, 8, 8, 8, 8)
    assert packed == b"".join(
        value.to_bytes(size, "little", signed=True) for value, size in zip((*range(1, 14), -1), sizes, strict=True)
    )


def test_one_that_is_gone_has_no_mode() -> None:
    assert unpack_stats(GONE)[0].mode == 0


@pytest.mark.parametrize("size", [1, STAT_BYTES - 1, STAT_BYTES + 1])
def test_a_part_of_one_is_a_violation(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack_stats(bytes(size))
