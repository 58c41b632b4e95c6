"""Messages as bytes: what goes in comes out, anything else is refused, on both sides, by both msgpacks."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any, Dict, get_args, get_type_hints

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.wire import codec
from mirrord_trace.agent.wire.codec import MessageTooLarge, decode, encode, number_of
from mirrord_trace.agent.wire.errors import LocalProtocolError, RemoteProtocolError
from mirrord_trace.agent.wire.messages import (
    MESSAGES,
    Address,
    Attributes,
    Bye,
    ConnectTcp,
    Done,
    Failed,
    FileStat,
    GetPod,
    Message,
    OpenedDirectory,
    Pod,
    Stat,
    Subscribe,
)

ADDRESS = Address(b"\x0a\0\0\1", 80)
STAT = FileStat(*range(14))


def field_values(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if name in codec._RANGES:
        low, high = codec._RANGES[name]
        return st.integers(low, min(high, 2**64 - 1))
    if hint is int:
        return st.integers(-(2**63), 2**64 - 1)
    if hint is Address:
        return st.builds(Address, st.sampled_from([bytes(4), bytes(range(16))]), st.integers(0, 65535))
    if hint is FileStat:
        return st.builds(FileStat, *[st.integers(-(2**63), 2**64 - 1)] * 14)
    if hint in (bytes, str, bool):
        return {bytes: st.binary(max_size=30), str: st.text(max_size=30), bool: st.booleans()}[hint]
    return st.lists(field_values("", get_args(hint)[0]), max_size=4).map(tuple)


def instances(cls: type) -> st.SearchStrategy[Message]:
    hints = get_type_hints(cls)
    return st.builds(cls, *[field_values(field.name, hints[field.name]) for field in dataclasses.fields(cls)])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(MESSAGES)).flatmap(lambda number: instances(MESSAGES[number])))
def test_every_message_comes_back(message: Message) -> None:
    encoded = encode(message)
    assert decode(encoded) == message
    assert decode(memoryview(bytearray(encoded))) == message


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = decode(data)
    except RemoteProtocolError:
        return
    assert decode(encode(message)) == message


msgpack_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 3), inner, max_size=2),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(MESSAGES)), st.lists(msgpack_values, max_size=5))
def test_any_fields_are_a_message_or_refused(number: int, fields: list) -> None:  # type: ignore[type-arg]
    try:
        message = decode(msgpack.packb([number, *fields]))
    except RemoteProtocolError:
        return
    assert type(message) is MESSAGES[number]
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Stat(b"/x", 1),  # type: ignore[arg-type]
        Stat("/x", True),  # type: ignore[arg-type]
        Failed(True),
        Failed(-1),
        Failed(5000),
        Failed(1, "\ud800"),
        Subscribe(65536, False, "", False),
        Subscribe(2**64, False, "", False),
        ConnectTcp(0, ADDRESS),
        ConnectTcp(1, Address(b"\x0a\0\0", 80)),
        ConnectTcp(1, (b"\x0a\0\0\1", 80)),  # type: ignore[arg-type]
        Pod((), b"", (b"a", "b"), b"/", ()),  # type: ignore[arg-type]
        Pod([], b"", (), b"/", ()),  # type: ignore[arg-type]
        Attributes(dataclasses.replace(STAT, size=2**64)),
        Attributes(dataclasses.replace(STAT, size=None)),  # type: ignore[arg-type]
        Message(),
    ],
)
def test_wrong_values_are_found_where_they_are_made(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode(message)
    assert decode(encode(GetPod())) == GetPod()  # and leave nothing behind


@pytest.mark.parametrize(
    "value",
    [
        [],
        1,
        {},
        [True],
        [60000],
        [1, 2],
        [2, 1],
        [2, "x", ""],
        [2, 1, b""],
        [20, b"/x", 1],
        [40, 1, [b"\x0a\0\0\1"]],
        [40, 1, b"\x0a\0\0\1"],
        [40, 1, [b"123", 80]],
        [40, 2**32, [b"1234", 80]],
        [50, -1],
        [11, [{}], b"", [], b"", []],
        [21, [0] * 13],
        [1, msgpack.Timestamp(0)],
    ],
)
def test_malformed(value: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb(value))


@pytest.mark.parametrize("data", [b"", b"\x91", b"\x91\x01\x00", b"\xc1", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff"])
def test_not_msgpack(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(data)


def test_size_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_MESSAGE_BYTES", 100)
    with pytest.raises(MessageTooLarge):
        encode(Bye("x" * 100))
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb([3, "x" * 100]))


def test_numbers() -> None:
    assert number_of(Done) == 1
    with pytest.raises(LocalProtocolError):
        number_of(Message)


def test_field_type_that_the_codec_does_not_know() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd:
        field: float

    Odd.__annotations__["field"] = float
    with pytest.raises(TypeError):
        codec._compile(Odd, ())


SAMPLES: Dict[str, Message] = {
    "pod": Pod((b"A=1", b"B=\xff"), b"host", (b"/bin/x",), b"/", (bytes(4), bytes(16)), (b"/data",)),
    "stat": Attributes(STAT),
    "directory": OpenedDirectory(STAT, (b".", b".."), (1, 2**63), (4, 4)),
    "connect": ConnectTcp(7, ADDRESS),
    "failed": Failed(2, "no ü"),
}


def test_pure_python_msgpack_gives_the_same_bytes() -> None:
    code = (
        "import sys, msgpack; assert 'fallback' in msgpack.Packer.__module__\n"
        "from mirrord_trace.agent.wire.codec import decode, encode\n"
        "for line in sys.stdin: print(encode(decode(bytes.fromhex(line))).hex())"
    )
    lines = [encode(message).hex() for message in SAMPLES.values()]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(lines),
        env={**os.environ, "MSGPACK_PUREPYTHON": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == lines
