from __future__ import annotations

import os

import pytest
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.supervisor.relay.addresses import ANY_PORT, AddressTable

PEER4 = Address(bytes([10, 0, 0, 9]), 51000)
LOCAL4 = Address(bytes([10, 0, 0, 1]), 80)
PEER6 = Address(bytes(15) + b"\7", 65535)
LOCAL6 = Address(bytes(15) + b"\1", 1)


def test_entries_of_both_families_are_apart() -> None:
    table = AddressTable()
    table.register(False, 40000, 8080, PEER4, LOCAL4)
    table.register(True, 40000, 8080, PEER6, LOCAL6)
    assert table.lookup(False, 40000, 8080) == (PEER4, LOCAL4)
    assert table.lookup(True, 40000, 8080) == (PEER6, LOCAL6)
    table.clear(False, 40000)
    assert table.lookup(False, 40000, 8080) is None
    assert table.lookup(True, 40000, 8080) == (PEER6, LOCAL6)


def test_another_tracee_port_is_not_meant() -> None:
    table = AddressTable()
    table.register(False, 40000, 8080, PEER4, LOCAL4)
    assert table.lookup(False, 40000, 8081) is None
    table.register(False, 40000, ANY_PORT, PEER4, LOCAL4)
    assert table.lookup(False, 40000, 8081) == (PEER4, LOCAL4)


@pytest.mark.parametrize("port", [1, 65535])
def test_first_and_last_port(port: int) -> None:
    table = AddressTable()
    for ipv6 in (False, True):
        table.register(ipv6, port, 1, PEER6, LOCAL6)
        assert table.lookup(ipv6, port, 1) == (PEER6, LOCAL6)


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_no_port(port: int) -> None:
    with pytest.raises(ValueError, match="not a port"):
        AddressTable().register(False, port, 1, PEER4, LOCAL4)


def test_a_half_written_entry_is_not_believed() -> None:
    table = AddressTable()
    table.register(False, 40000, 8080, PEER4, LOCAL4)
    offset = table._memory.find(PEER4.ip)
    table._memory[offset : offset + 2] = b"\xff\xff"
    assert table.lookup(False, 40000, 8080) is None


def test_an_entry_at_a_wrong_place_is_not_believed() -> None:
    table = AddressTable()
    table.register(False, 40000, 8080, PEER4, LOCAL4)
    table._memory[40001 * 48 : 40002 * 48] = table._memory[40000 * 48 : 40001 * 48]
    assert table.lookup(False, 40001, 8080) is None


def test_shared_with_a_child() -> None:
    table = AddressTable()
    pid = os.fork()
    if pid == 0:
        table.register(False, 40000, 8080, PEER4, LOCAL4)
        os._exit(0)
    os.waitpid(pid, 0)
    assert table.lookup(False, 40000, 8080) == (PEER4, LOCAL4)


def test_never_half_of_each_while_entries_are_replaced() -> None:
    table = AddressTable()
    pairs = [(PEER4, LOCAL4), (PEER6, LOCAL6)]
    pid = os.fork()
    if pid == 0:
        for turn in range(20000):
            table.register(False, 40000, 8080, *pairs[turn % 2])
        os._exit(0)
    ended, seen = 0, set()
    while not ended:
        seen.add(table.lookup(False, 40000, 8080))
        ended, _ = os.waitpid(pid, os.WNOHANG)
    assert seen <= {*pairs, None}
    assert table.lookup(False, 40000, 8080) == pairs[1]
