from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.wire import file_messages as wire
from mirrord_trace.agent.wire.codec import CHANNEL_NUMBERS, decode, encode
from mirrord_trace.agent.wire.errors import LocalProtocolError, RemoteProtocolError
from mirrord_trace.agent.wire.messages import MESSAGES, Message

OWN = {number: cls for number, cls in MESSAGES.items() if cls.__module__ == wire.__name__}
VALUES = {
    "int": st.integers(-(2**63), 2**64 - 1),
    "bytes": st.binary(max_size=50),
    "bool": st.booleans(),
    "tuple[bytes, ...]": st.lists(st.binary(max_size=20), max_size=5).map(tuple),
}


def test_they_travel_on_the_channel_under_numbers_of_their_own() -> None:
    assert set(OWN) <= set(CHANNEL_NUMBERS)
    assert sorted(OWN) == list(range(80, 80 + len(OWN)))
    assert all(cls.__doc__ for cls in OWN.values())


@given(st.data())
@pytest.mark.parametrize("cls", OWN.values(), ids=lambda cls: cls.__name__)
def test_each_comes_back_as_it_was(cls: type[Message], data: st.DataObject) -> None:
    fields = cls.__dataclass_fields__  # type: ignore[attr-defined]
    values = {
        name: data.draw(st.integers(0, 4095) if name == "errno" else VALUES[field.type]) for name, field in fields.items()
    }
    sent = cls(**values)
    assert decode(encode(sent)) == sent


def test_wrong_values_do_not_travel() -> None:
    with pytest.raises(LocalProtocolError):
        encode(wire.Walked((), b"", (), 4096, b"", False, b""))
    with pytest.raises(LocalProtocolError):
        encode(wire.CloseHandle("1"))  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError):
        decode(encode(wire.CloseHandle(1))[:1] + b"\x50" + encode(wire.CloseHandle(1))[2:])


def test_bits_are_apart() -> None:
    bits = (
        wire.SET_MODE, wire.SET_UID, wire.SET_GID, wire.SET_SIZE, wire.SET_ATIME, wire.SET_MTIME, wire.SET_ATIME_NOW,
        wire.SET_MTIME_NOW,
    )  # fmt: skip
    assert sum(bits).bit_count() == len(bits)
