from __future__ import annotations

from mirrord_trace.syscalls.net.learnt import GRACE_S, MOST_ADDRESSES, MOST_NAMES, NameTable


def test_names_live_as_long_as_the_answer_said_and_a_grace() -> None:
    now = [1000.0]
    table = NameTable(lambda: now[0])
    table.learn((b"1111", b"2222"), ("a", "b"), 60)
    table.learn((b"1111",), ("c",), 0)
    assert table.of(b"1111") == ("a", "b", "c")
    assert table.of(b"2222") == ("a", "b")
    assert table.of(b"3333") == ()
    now[0] += GRACE_S + 1
    assert table.of(b"1111") == ("a", "b")
    now[0] += 60
    assert table.of(b"1111") == ()


def test_a_shorter_answer_takes_nothing_away() -> None:
    now = [0.0]
    table = NameTable(lambda: now[0])
    table.learn((b"1111",), ("a",), 100)
    table.learn((b"1111",), ("a",), 1)
    now[0] = GRACE_S + 50
    assert table.of(b"1111") == ("a",)


def test_bounds() -> None:
    table = NameTable(lambda: 0.0)
    table.learn((b"1111",), (f"n{number}" for number in range(MOST_NAMES + 5)), 1)
    names = table.of(b"1111")
    assert len(names) == MOST_NAMES
    assert names[-1] == f"n{MOST_NAMES + 4}"
    for number in range(MOST_ADDRESSES):
        table.learn((number.to_bytes(4, "big"),), ("x",), 1)
    assert table.of(b"1111") == ()
    assert table.of((MOST_ADDRESSES - 1).to_bytes(4, "big")) == ("x",)
