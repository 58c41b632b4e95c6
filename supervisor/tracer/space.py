"""The address space of a process: its memory, and the scratch memory this tool maps into it.

/proc/TID/mem stays bound to the memory it was opened on, so one descriptor serves all threads and vfork children, and
is dropped at exec. Reading through it is the cheapest way there is; writing through it would also change read-only
pages, where the kernel answers EFAULT, so results are written by process_vm_writev(2).

Scratch memory exists because the bytes an argument points to may be read-only, shared with other threads or on a
goroutine's small stack: replaced arguments point to slots of our own instead. The region is mapped by a call injected
into the tracee, once per address space, and found again by forked children, which inherit it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import resource

from ...syscalls.actions import OutOfReach, SyscallError
from ..errors import TraceeGone

SLOT_BYTES = 512
LARGE_SLOT_BYTES = 8192
"""Enough for any path behind the prefix of the mounted pod tree."""
LARGE_SLOTS = 16
REGION_BYTES = 256 * 1024

SHORT_STRING_BYTES = 256
_PAGE = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_process_vm_readv, _process_vm_writev = _libc.process_vm_readv, _libc.process_vm_writev
for _function in (_process_vm_readv, _process_vm_writev):
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = (
        ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong,
    )  # fmt: skip

BY_NUMBER = -2
"""For `AddressSpace.memory`: what is read is the memory that the thread with this number has now. BY_NUMBER in hot.h."""

_open_memories = [0]


class AddressSpace:
    """Memory of one `mm`, shared by the threads (and vfork children) that share it in the kernel."""

    def __init__(self, regions: list[int] | None = None) -> None:
        self.regions: list[int] = list(regions or ())
        self._free: list[int] = [slot for base in self.regions for slot in _slots(base)]
        self._large: list[int] = [slot for base in self.regions for slot in _large_slots(base)]
        self._blocks: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self.memory = -1
        """Descriptor of /proc/TID/mem, or -1 until it is first used, or BY_NUMBER where it got none."""

    def fork(self) -> AddressSpace:
        """The copy that a forked child has: same mappings, every slot free."""
        return AddressSpace(self.regions)

    def __del__(self) -> None:
        # Shared by reference between tasks, so the last of them takes the descriptor along.
        if self.memory >= 0:
            os.close(self.memory)
            self.memory = -1
            _open_memories[0] -= 1

    # -- scratch ----------------------------------------------------------------------------------------------------

    def take_slot(self, size_bytes: int = 0) -> int | None:
        """Address of a free slot for so many bytes, or None: `region_for(size_bytes)` bytes have to be mapped first.

        Contents are short as a rule: the few large slots are for those that are not. More still has a region of its own,
        which serves again for as much or less.
        """
        if size_bytes <= SLOT_BYTES:
            return self._free.pop() if self._free else None
        if size_bytes <= LARGE_SLOT_BYTES:
            return self._large.pop() if self._large else None
        fitting = [address for address, size in self._blocks.items() if size >= size_bytes]
        if not fitting:
            return None
        self._sizes[fitting[0]] = self._blocks.pop(fitting[0])
        return fitting[0]

    def give_slot(self, address: int) -> None:
        """Take a slot back."""
        size = self._sizes.pop(address, 0)
        if size:
            self._blocks[address] = size
        elif any(base <= address < base + LARGE_SLOTS * LARGE_SLOT_BYTES for base in self.regions):
            self._large.append(address)
        else:
            self._free.append(address)

    def add_region(self, base: int, size_bytes: int = 0) -> None:
        """`region_for(size_bytes)` bytes have been mapped at `base`."""
        if size_bytes > LARGE_SLOT_BYTES:
            self._blocks[base] = region_for(size_bytes)
            return
        self.regions.append(base)
        self._free.extend(_slots(base))
        self._large.extend(_large_slots(base))

    # -- memory -----------------------------------------------------------------------------------------------------

    def read(self, tid: int, address: int, size_bytes: int) -> bytes:
        """Exactly `size_bytes`; SyscallError(EFAULT) if any of it is unmapped."""
        content = self._read_some(tid, address, size_bytes)
        if len(content) < size_bytes:
            raise SyscallError(errno.EFAULT)
        return content

    def read_string(self, tid: int, address: int, limit: int) -> bytes:
        """The bytes before a NUL; EFAULT, or ENAMETOOLONG if there is none within `limit` bytes."""
        content = self._read_some(tid, address, min(SHORT_STRING_BYTES, limit))
        end = content.find(0)
        if end >= 0:
            return content[:end]
        return self._read_long_string(tid, address, limit, content)

    def _read_long_string(self, tid: int, address: int, limit: int, content: bytes) -> bytes:
        while len(content) < limit:
            position = address + len(content)
            step = min(_PAGE - position % _PAGE, limit - len(content))
            more = self._read_some(tid, position, step)
            if not more:
                raise SyscallError(errno.EFAULT)
            end = more.find(0)
            if end >= 0:
                return content + more[:end]
            content += more
        raise SyscallError(errno.ENAMETOOLONG)

    def write(self, tid: int, address: int, content: bytes) -> None:
        """All of `content`; SyscallError(EFAULT) if any page is unmapped or not writable for the tracee.

        process_vm_writev(2), since a write through /proc/TID/mem would also change read-only pages.
        """
        source = ctypes.create_string_buffer(content, len(content))
        pieces = (ctypes.c_uint64 * 4)(ctypes.addressof(source), len(content), address, len(content))
        here = ctypes.addressof(pieces)
        written = _process_vm_writev(tid, here, 1, here + 16, 1, 0)
        if written == len(content):
            return
        if written < 0 and ctypes.get_errno() == errno.ESRCH:
            raise TraceeGone(tid)
        if written < 0 and ctypes.get_errno() in (errno.ENOSYS, errno.EPERM):
            self._write_by_file(tid, address, content)
            return
        raise SyscallError(errno.EFAULT)

    def _write_by_file(self, tid: int, address: int, content: bytes) -> None:
        # For kernels without CONFIG_CROSS_MEMORY_ATTACH and for sandboxes that forbid it.
        memory = self._open(tid)
        if memory < 0:
            raise OutOfReach(errno.EMFILE)
        try:
            written = os.pwrite(memory, content, address)
        except (OSError, OverflowError):
            raise SyscallError(errno.EFAULT) from None
        if written < len(content):
            raise SyscallError(errno.EFAULT)

    def _read_some(self, tid: int, address: int, size_bytes: int) -> bytes:
        memory = self.memory
        if memory < 0:
            memory = self._open(tid)
            if memory == BY_NUMBER:
                return read_by_number(tid, address, size_bytes)
        try:
            return os.pread(memory, size_bytes, address)
        except (OSError, OverflowError):
            # A read that crosses into an unmapped page returns what came before it; this one began in one.
            raise SyscallError(errno.EFAULT) from None

    def _open(self, tid: int) -> int:
        if self.memory == -1 and _open_memories[0] >= _most_memories():
            self.memory = BY_NUMBER
        if self.memory == -1:
            try:
                self.memory = os.open(f"/proc/{tid}/mem", os.O_RDWR | os.O_CLOEXEC)
                _open_memories[0] += 1
            except (FileNotFoundError, ProcessLookupError):
                raise TraceeGone(tid) from None
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    # EACCES: its file may not be read, or it has made itself unreadable (PR_SET_DUMPABLE).
                    raise OutOfReach(error.errno or errno.EACCES) from None
                self.memory = BY_NUMBER
        return self.memory


@functools.cache
def _most_memories() -> int:
    # Of the descriptors that this process may have; the others are for what the programs open.
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4


def read_by_number(tid: int, address: int, size_bytes: int) -> bytes:
    """process_vm_readv(2): as much as is mapped, of the memory that the thread has now. EFAULT if there is nothing.

    OutOfReach where it may not be used, or the kernel has none.
    """
    if size_bytes <= 0 or address >> 64:
        return b""
    buffer = ctypes.create_string_buffer(size_bytes)
    pieces = (ctypes.c_uint64 * 4)(ctypes.addressof(buffer), size_bytes, address, size_bytes)
    here = ctypes.addressof(pieces)
    # The pages before one that is not mapped are read.
    count = int(_process_vm_readv(tid, here, 1, here + 16, 1, 0))
    if count >= 0:
        return buffer.raw[:count]
    number = ctypes.get_errno()
    if number == errno.ESRCH:
        raise TraceeGone(tid)
    if number in (errno.ENOSYS, errno.EPERM):
        raise OutOfReach(number)
    raise SyscallError(errno.EFAULT)


def region_for(size_bytes: int) -> int:
    """How much to map for a slot of this size."""
    return REGION_BYTES if size_bytes <= LARGE_SLOT_BYTES else -(-size_bytes // _PAGE) * _PAGE


def _large_slots(base: int) -> list[int]:
    return list(range(base, base + LARGE_SLOTS * LARGE_SLOT_BYTES, LARGE_SLOT_BYTES))


def _slots(base: int) -> list[int]:
    return list(range(base + LARGE_SLOTS * LARGE_SLOT_BYTES, base + REGION_BYTES, SLOT_BYTES))
