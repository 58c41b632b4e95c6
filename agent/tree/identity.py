"""Whose rights file operations have: those of the target process, as near as the agent's own rights allow.

The agent may be root with every capability while the container's process is an ordinary user. What that process may not
read must not be readable here, and what is created here must belong to it. Linux keeps credentials by thread, so the
threads that touch files take over the target's file system ids (setfsuid(2)), groups and effective capabilities, and the
rest of the agent keeps its own. The system calls are made directly: the C library's setgroups changes all threads.

What may not be set stays as it is: an agent that is an ordinary user is the target's user anyway (target.py).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Tuple, Union

from . import calls


@dataclass(frozen=True)
class Credentials:
    """credentials(7), capabilities(7) of a process, as far as access to files depends on them.

    `inner_pid` is what the process's own PID namespace calls it.
    """

    fsuid: int
    fsgid: int
    groups: Tuple[int, ...]
    effective: int
    inner_pid: int


def read_credentials(process: Union[int, str]) -> Credentials:
    """Those of /proc/`process`, in the numbers of the caller's user namespace. OSError if there is no such process."""
    with open(f"/proc/{process}/status", "rb", buffering=0) as file:
        lines = file.readall().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(b":") for line in lines)}
    return Credentials(
        fsuid=int(fields[b"Uid"][3]),
        fsgid=int(fields[b"Gid"][3]),
        groups=tuple(int(group) for group in fields[b"Groups"]),
        effective=int(fields[b"CapEff"][0], 16),
        inner_pid=int(fields.get(b"NSpid", [b"1"])[-1]),
    )


def assume(target: Credentials) -> None:
    """Let the calling thread be `target` towards files, for good; the rest of the process stays what it is."""
    own = read_credentials("thread-self")
    if (own.fsuid, own.fsgid, own.groups, own.effective) == (target.fsuid, target.fsgid, target.groups, target.effective):
        return
    # Changing the ids needs capabilities that go away last; leaving uid 0 takes some out of the effective set, of which
    # the target may have been given some.
    effective, permitted, inheritable = calls.thread_capabilities()
    if own.groups != target.groups:
        with contextlib.suppress(OSError):
            calls.set_thread_groups(target.groups)
    calls.set_thread_fs_ids(target.fsuid, target.fsgid)
    with contextlib.suppress(OSError):
        calls.set_thread_capabilities(effective & target.effective, permitted, inheritable)
