"""Puts bytes where a tracee's argument can point at them: into the scratch memory of its address space."""

from __future__ import annotations

import errno
from collections.abc import Callable

from ...syscalls.actions import OutOfReach, Scratch, SyscallError
from ..errors import InternalError
from .call import ActiveCall, Engine
from .space import region_for
from .tracee import Tracee

_PROT_READ_WRITE = 3
_MAP_PRIVATE_ANONYMOUS = 0x22
_MASK = 0xFFFFFFFFFFFFFFFF

LIMIT_BYTES = 4 << 20
"""More than execve(2) takes for all its strings together; handlers ask for less."""


def place(engine: Engine, tracee: Tracee, call: ActiveCall, scratch: Scratch, go_on: Callable[[], None]) -> int | None:
    """At ENTRY: the address of these bytes in the tracee, good until the call ends.

    None: the call goes another way first, or has failed. Then either memory is being mapped, and `go_on` is called once
    the call is made again, or the call has ended.
    """
    content = scratch.content
    if len(content) > LIMIT_BYTES:
        raise InternalError(f"{len(content)} bytes of scratch")
    slot = tracee.space.take_slot(len(content))
    if slot is None:
        _map_region(engine, tracee, call, len(content), go_on)
        return None
    call.slots.append(slot)
    for offset, target in scratch.pointers:
        content = content[:offset] + (slot + target).to_bytes(8, "little") + content[offset + 8 :]
    try:
        tracee.space.write(tracee.tid, slot, content)
    except (SyscallError, OutOfReach) as fault:
        # The program has unmapped what it did not map, or made itself unreadable (PR_SET_DUMPABLE).
        engine.fail(tracee, call, fault)
        return None
    return slot


def _map_region(engine: Engine, tracee: Tracee, call: ActiveCall, size_bytes: int, go_on: Callable[[], None]) -> None:
    args = {0: 0, 1: region_for(size_bytes), 2: _PROT_READ_WRITE, 3: _MAP_PRIVATE_ANONYMOUS, 4: -1, 5: 0}

    def mapped(result: int) -> None:
        if -4096 < result < 0:
            engine.fail(tracee, call, SyscallError(errno.ENOMEM))
            return
        tracee.space.add_region(result & _MASK, size_bytes)
        engine.rewind(tracee, call, go_on)

    engine.run(tracee, call, "mmap", args, mapped)
