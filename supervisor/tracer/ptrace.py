"""ptrace(2) by ctypes: the requests this tool uses, each as a typed function.

python-ptrace's binding lacks PTRACE_SEIZE, LISTEN, GET_SYSCALL_INFO and the options for seccomp and EXITKILL, and loses
errno; hence this one. The library is called with the GIL held (PyDLL): every request here returns at once, and
releasing the GIL costs more than the request. Waiting is os.waitpid's, which releases it.

Every function raises `TraceeGone` for ESRCH: the tracee was killed while it was stopped, which is a normal outcome
(ptrace(2), "Death under ptrace").
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import struct
import sys

from ..errors import TraceeGone

PTRACE_CONT = 7
PTRACE_POKEUSER = 6
PTRACE_SYSCALL = 24
PTRACE_GETEVENTMSG = 0x4201
PTRACE_GETSIGINFO = 0x4202
PTRACE_GETREGSET = 0x4204
PTRACE_SETREGSET = 0x4205
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
PTRACE_LISTEN = 0x4208
PTRACE_DETACH = 17
PTRACE_GETSIGMASK = 0x420A
PTRACE_SETSIGMASK = 0x420B
PTRACE_GET_SYSCALL_INFO = 0x420E

EVENT_FORK = 1
EVENT_VFORK = 2
EVENT_CLONE = 3
EVENT_EXEC = 4
EVENT_SECCOMP = 7
EVENT_STOP = 128

OPTION_TRACESYSGOOD = 1 << 0
OPTION_TRACEFORK = 1 << EVENT_FORK
OPTION_TRACEVFORK = 1 << EVENT_VFORK
OPTION_TRACECLONE = 1 << EVENT_CLONE
OPTION_TRACEEXEC = 1 << EVENT_EXEC
OPTION_TRACESECCOMP = 1 << EVENT_SECCOMP
OPTION_EXITKILL = 1 << 20

NT_PRSTATUS = 1
NT_ARM_SYSTEM_CALL = 0x404

WALL = 0x40000000
"""__WALL of waitpid(2): children of every kind, threads included."""

INFO_ENTRY = 1
INFO_EXIT = 2
INFO_SECCOMP = 3

_INFO_SIZE = 96
_INFO_CALL = struct.Struct("<B3xIQQQ6Q")
_SIGINFO_BYTES = 128
_INFO_EXIT = struct.Struct("<B3xIQQqB")

_libc = ctypes.PyDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
# Where the kernel puts what it tells of a call. Below 2 GiB where that can be asked for: such an address is passed as a
# plain int, and ctypes takes half as long over it as over a pointer object.
_MAP_32BIT = 0x40 if platform.machine() == "x86_64" else 0
_info_page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_32BIT)
_info = memoryview(_info_page)
_address = ctypes.addressof(ctypes.c_char.from_buffer(_info_page))
_info_address = _address if _address < 1 << 31 else ctypes.c_void_p(_address)

# The two requests of every stop go through a binding that neither converts by declared types nor swaps errno: it costs
# half as much. When it reports a failure the request is made again by the other, which tells why.
_quick_ptrace = ctypes.PyDLL(None).ptrace
_get_errno = ctypes.get_errno
_unpack_call = _INFO_CALL.unpack_from
_unpack_exit = _INFO_EXIT.unpack_from


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _fail(request: int, tid: int) -> None:
    number = _get_errno()
    if number == errno.ESRCH:
        raise TraceeGone(tid)
    raise OSError(number, f"ptrace request {request:#x} on {tid}: {os.strerror(number)}")


def seize(tid: int, options: int) -> None:
    """PTRACE_SEIZE: attach without stopping. PermissionError where Yama or another tracer forbids it."""
    if _ptrace(PTRACE_SEIZE, tid, 0, options) < 0:
        _fail(PTRACE_SEIZE, tid)


def cont(tid: int, signal: int = 0) -> None:
    """PTRACE_CONT: run on, with `signal` delivered if not 0."""
    if _quick_ptrace(PTRACE_CONT, tid, 0, signal) < 0 and _ptrace(PTRACE_CONT, tid, 0, signal) < 0:
        _fail(PTRACE_CONT, tid)


def to_syscall_stop(tid: int, signal: int = 0) -> None:
    """PTRACE_SYSCALL: run on to the next syscall stop; from a seccomp stop that is the same call's exit."""
    if _ptrace(PTRACE_SYSCALL, tid, 0, signal) < 0:
        _fail(PTRACE_SYSCALL, tid)


def listen(tid: int) -> None:
    """PTRACE_LISTEN: leave a group-stopped tracee stopped, but let SIGCONT reach it."""
    if _ptrace(PTRACE_LISTEN, tid, 0, 0) < 0:
        _fail(PTRACE_LISTEN, tid)


def interrupt(tid: int) -> None:
    """PTRACE_INTERRUPT: stop a tracee that runs or waits in a call; also one in PTRACE_LISTEN."""
    if _ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0:
        _fail(PTRACE_INTERRUPT, tid)


def detach(tid: int, signal: int = 0) -> None:
    """PTRACE_DETACH."""
    if _ptrace(PTRACE_DETACH, tid, 0, signal) < 0:
        _fail(PTRACE_DETACH, tid)


def event_message(tid: int) -> int:
    """PTRACE_GETEVENTMSG: the new task's tid at fork events, the former tid at exec."""
    message = ctypes.c_ulong()
    if _ptrace(PTRACE_GETEVENTMSG, tid, 0, ctypes.addressof(message)) < 0:
        _fail(PTRACE_GETEVENTMSG, tid)
    return message.value


def signal_code(tid: int) -> int:
    """PTRACE_GETSIGINFO at a signal-delivery stop: si_code, which tells who has sent the signal."""
    content = ctypes.create_string_buffer(_SIGINFO_BYTES)
    if _ptrace(PTRACE_GETSIGINFO, tid, 0, ctypes.addressof(content)) < 0:
        _fail(PTRACE_GETSIGINFO, tid)
    return int.from_bytes(content.raw[8:12], sys.byteorder, signed=True)


def signal_mask(tid: int) -> int:
    """PTRACE_GETSIGMASK: which signals are blocked."""
    content = ctypes.c_uint64(0)
    if _ptrace(PTRACE_GETSIGMASK, tid, 8, ctypes.addressof(content)) < 0:
        _fail(PTRACE_GETSIGMASK, tid)
    return content.value


def set_signal_mask(tid: int, mask: int) -> None:
    """PTRACE_SETSIGMASK: block the signals whose bits are set, and no others."""
    content = ctypes.c_uint64(mask)
    if _ptrace(PTRACE_SETSIGMASK, tid, 8, ctypes.addressof(content)) < 0:
        _fail(PTRACE_SETSIGMASK, tid)


def call_at_stop(tid: int) -> tuple[int, int, int, int, int, int, int, int, int, int, int]:
    """PTRACE_GET_SYSCALL_INFO at an entry or seccomp stop: (op, arch, ip, sp, sysno, six arguments)."""
    if _quick_ptrace(PTRACE_GET_SYSCALL_INFO, tid, _INFO_SIZE, _info_address) < 0:
        result_at_exit(tid)  # the same request, which tells what is wrong
    return _unpack_call(_info)


def result_at_exit(tid: int) -> tuple[int, int]:
    """PTRACE_GET_SYSCALL_INFO at a syscall stop: (op, result); the result only means something if op is INFO_EXIT."""
    if _ptrace(PTRACE_GET_SYSCALL_INFO, tid, _INFO_SIZE, _info_address) < 0:
        _fail(PTRACE_GET_SYSCALL_INFO, tid)
    fields = _unpack_exit(_info)
    return fields[0], fields[4]


def get_register_set(tid: int, size_bytes: int, note: int = NT_PRSTATUS) -> bytes:
    """PTRACE_GETREGSET."""
    buffer = ctypes.create_string_buffer(size_bytes)
    vector = _IoVec(ctypes.addressof(buffer), size_bytes)
    if _ptrace(PTRACE_GETREGSET, tid, note, ctypes.addressof(vector)) < 0:
        _fail(PTRACE_GETREGSET, tid)
    return buffer.raw[: vector.length]


def set_register_set(tid: int, content: bytes, note: int = NT_PRSTATUS) -> None:
    """PTRACE_SETREGSET."""
    buffer = ctypes.create_string_buffer(content, len(content))
    vector = _IoVec(ctypes.addressof(buffer), len(content))
    if _ptrace(PTRACE_SETREGSET, tid, note, ctypes.addressof(vector)) < 0:
        _fail(PTRACE_SETREGSET, tid)


def poke_user(tid: int, offset: int, value: int) -> None:
    """PTRACE_POKEUSER: one register of struct user."""
    if _ptrace(PTRACE_POKEUSER, tid, offset, value & 0xFFFFFFFFFFFFFFFF) < 0:
        _fail(PTRACE_POKEUSER, tid)
