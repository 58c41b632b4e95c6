"""Messages as bytes: one msgpack array `[number, field, field, ...]`, in the order of the dataclass's fields.

Arrays, not maps: half the size and a third of the time. Value classes (`Address`, `FileStat`) are nested arrays.
Everything from the peer is checked against the dataclass's annotations before an object is made of it, and everything
we send is checked the same way, so that a wrong value is found where it was made. The conversions of a class are
compiled once, at its first use. C and pure-Python msgpack give the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import threading
from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple, Type, Union, get_args, get_origin, get_type_hints

import msgpack

from . import file_messages  # noqa: F401 (registers its messages)
from .errors import LocalProtocolError, RemoteProtocolError
from .frames import MAX_ERRNO, MAX_MESSAGE_BYTES
from .messages import MESSAGES, Address, FileStat, Message

Convert = Callable[[Any], Any]

VALUES: Tuple[type, ...] = (Address, FileStat)
"""The classes other than messages that fields may hold."""

CHANNEL_NUMBERS = range(1, 200)
"""Message numbers that travel between client and agent; the others are for the link of tracer and relay."""

# Fields of these names are held to these ranges in every message; msgpack holds other integers to 64 bits.
_RANGES: Dict[str, Tuple[int, int]] = {
    "port": (0, 0xFFFF),
    "listener4_port": (0, 0xFFFF),
    "listener6_port": (0, 0xFFFF),
    "stream": (1, 0xFFFFFFFF),
    "errno": (0, MAX_ERRNO),
    "inline_limit": (0, MAX_MESSAGE_BYTES),
}


class _Shape(NamedTuple):
    # How one dataclass is written. The types of all fields are compared at once, in C; `pack` and `unpack` list the
    # few fields (by position) that need more: a range, or a conversion between value class and array.
    cls: type
    prefix: Tuple[int, ...]
    names: Tuple[str, ...]
    values_of: Callable[[Any], Tuple[Any, ...]]
    types: Tuple[type, ...]
    packed_types: Tuple[type, ...]
    pack: Tuple[Tuple[int, Convert], ...]
    unpack: Tuple[Tuple[int, Convert], ...]


class _Bad(Exception):
    # A value that does not fit its field.
    pass


class MessageTooLarge(LocalProtocolError):
    """The encoded message exceeds MAX_MESSAGE_BYTES."""


class _Field(NamedTuple):
    # One field: its type in the dataclass and in the array, and what is to be done beside checking these.
    kind: type
    packed_kind: type
    pack: Optional[Convert] = None
    unpack: Optional[Convert] = None


def _in_range(name: str, low: int, high: int) -> Convert:
    def check(value: int) -> int:
        if not low <= value <= high:
            raise _Bad(f"{name}: {value} is out of range")
        return value

    return check


def _check_ip(value: bytes) -> bytes:
    if len(value) not in (4, 16):
        raise _Bad("ip: not a packed address")
    return value


def _each(name: str, item: _Field, packing: bool) -> Convert:
    kind = item.kind if packing else item.packed_kind
    convert = item.pack if packing else item.unpack

    def check(values: Tuple[Any, ...]) -> Tuple[Any, ...]:
        if not set(map(type, values)) <= {kind}:
            raise _Bad(f"{name}: not all of them {kind.__name__}")
        return values if convert is None else tuple([convert(value) for value in values])

    return check


def _field(name: str, hint: Any) -> _Field:
    if hint is int:
        check = _in_range(name, *_RANGES[name]) if name in _RANGES else None
        return _Field(int, int, check, check)
    if hint in (bytes, str, bool):
        check = _check_ip if name == "ip" else None
        return _Field(hint, hint, check, check)
    if get_origin(hint) is tuple and len(get_args(hint)) == 2 and get_args(hint)[1] is Ellipsis:
        item = _field(name, get_args(hint)[0])
        return _Field(tuple, tuple, _each(name, item, packing=True), _each(name, item, packing=False))
    if hint in VALUES:
        shape = _compile(hint, ())
        return _Field(hint, tuple, functools.partial(_to_array, shape), functools.partial(_from_array, shape))
    raise TypeError(f"field {name} has a type that the codec does not know: {hint!r}")


def _values_of(names: Tuple[str, ...]) -> Callable[[Any], Tuple[Any, ...]]:
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda instance: tuple([getattr(instance, name) for name in names])


def _compile(cls: type, prefix: Tuple[int, ...]) -> _Shape:
    hints = get_type_hints(cls)
    names = tuple(field.name for field in dataclasses.fields(cls))
    fields = [_field(name, hints[name]) for name in names]
    return _Shape(
        cls,
        prefix,
        names,
        _values_of(names),
        tuple(field.kind for field in fields),
        tuple(field.packed_kind for field in fields),
        tuple((index, field.pack) for index, field in enumerate(fields) if field.pack is not None),
        tuple((index, field.unpack) for index, field in enumerate(fields) if field.unpack is not None),
    )


_shapes: Dict[type, _Shape] = {}
_numbers: Dict[type, int] = {}


def number_of(cls: Type[Message]) -> int:
    """The number a message class travels under; LocalProtocolError if it has none."""
    number = _numbers.get(cls)
    if number is None:
        _numbers.update({known: number for number, known in MESSAGES.items()})
        number = _numbers.get(cls)
        if number is None:
            raise LocalProtocolError(f"{cls.__name__} is not a message")
    return number


def _shape_of(cls: Type[Message]) -> _Shape:
    shape = _shapes.get(cls)
    if shape is None:
        shape = _shapes[cls] = _compile(cls, (number_of(cls),))
    return shape


def _mismatch(shape: _Shape, types: Tuple[type, ...], values: Tuple[Any, ...]) -> _Bad:
    for name, kind, value in zip(shape.names, types, values):  # noqa: B905 (no `strict` in 3.9)
        if type(value) is not kind:
            return _Bad(f"{shape.cls.__name__}.{name}: {type(value).__name__} instead of {kind.__name__}")
    return _Bad(f"{shape.cls.__name__}: {len(values)} fields instead of {len(types)}")


def _to_array(shape: _Shape, instance: Any) -> Tuple[Any, ...]:
    values = shape.values_of(instance)
    if tuple(map(type, values)) != shape.types:
        raise _mismatch(shape, shape.types, values)
    if not shape.pack:
        return shape.prefix + values
    changed = list(values)
    for index, convert in shape.pack:
        changed[index] = convert(changed[index])
    return shape.prefix + tuple(changed)


def _from_array(shape: _Shape, array: Tuple[Any, ...]) -> Any:
    values = array[len(shape.prefix) :]
    if tuple(map(type, values)) != shape.packed_types:
        raise _mismatch(shape, shape.packed_types, values)
    if not shape.unpack:
        return shape.cls(*values)
    changed = list(values)
    for index, convert in shape.unpack:
        changed[index] = convert(changed[index])
    return shape.cls(*changed)


class _Packers(threading.local):
    # A Packer is cheap to use and dear to make, and must not be shared between threads.
    def __init__(self) -> None:
        self.packer = msgpack.Packer(use_bin_type=True)


_packers = _Packers()


def encode(message: Message) -> bytes:
    """The message as bytes; LocalProtocolError if a field has a wrong type or range, or the whole is too large."""
    try:
        array = _to_array(_shape_of(type(message)), message)
        encoded: bytes = _packers.packer.pack(array)
    except (_Bad, UnicodeError, OverflowError) as error:
        raise LocalProtocolError(f"{type(message).__name__}: {error}") from error
    if len(encoded) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(f"{type(message).__name__} of {len(encoded)} bytes")
    return encoded


def decode(data: Union[bytes, bytearray, memoryview]) -> Message:
    """The message in `data`, which it must fill exactly; RemoteProtocolError if it is none."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(f"message of {len(data)} bytes")
    try:
        array = msgpack.unpackb(data, raw=False, use_list=False, max_map_len=0, max_ext_len=0)
    except RecursionError as error:
        raise RemoteProtocolError("message nested too deeply") from error
    except Exception as error:  # msgpack documents no common base: ValueError, UnpackException, OverflowError, ...
        raise RemoteProtocolError(f"message is not msgpack: {error!r}") from error
    if type(array) is not tuple or not array or type(array[0]) is not int:
        raise RemoteProtocolError("message is not a numbered array")
    cls = MESSAGES.get(array[0])
    if cls is None:
        raise RemoteProtocolError(f"unknown message number {array[0]}")
    try:
        message = _from_array(_shape_of(cls), array)
    except _Bad as error:
        raise RemoteProtocolError(f"malformed {cls.__name__}: {error}") from error
    assert isinstance(message, Message)
    return message
