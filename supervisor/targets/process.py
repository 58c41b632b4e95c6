"""`pid/N`: the context of a running process of this machine."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from ..channel.local import LocalChannel
from ..errors import EXIT_USAGE, UsageError
from .base import Progress

_PREFIX = "pid/"


class ProcessTarget:
    """The namespaces, root directory and environment of process `pid`.

    The agent is a child of the relay and enters the process's network namespace by itself. That takes root, or a user
    namespace of the caller's own around it.
    """

    def __init__(self, pid: int, *, proc: Path = Path("/proc")) -> None:
        self._pid = pid
        self._proc = proc
        self._channel: LocalChannel | None = None
        self.boot_secret = secrets.token_bytes(32)

    @classmethod
    def parse(cls, text: str) -> ProcessTarget:
        """From "pid/N"; UsageError if N is no pid."""
        number = text[len(_PREFIX) :] if text.startswith(_PREFIX) else ""
        if not (number.isascii() and number.isdigit()) or not 0 < int(number) < 2**31:
            raise UsageError(f"{text}: a process target is pid/N with the number of a running process", EXIT_USAGE)
        return cls(int(number))

    def describe(self) -> str:
        """The process by number."""
        return f"process {self._pid}"

    def agent_target(self) -> dict[str, Any]:
        """The process, for the agent."""
        return {"pid": self._pid}

    def start(self, progress: Progress) -> LocalChannel:
        """Check that the process can be entered; the agent, a child of the relay, runs once the channel is opened."""
        self._check()
        progress(f"starting the agent for {self.describe()}")
        self._channel = LocalChannel(self.boot_secret)
        return self._channel

    def stop(self) -> None:
        """End the agent if it has not ended by itself."""
        if self._channel is not None:
            self._channel.close()

    def _check(self) -> None:
        status = self._status()
        if status.get("State", "").startswith(("Z", "X")):
            raise UsageError(f"process {self._pid} has ended already; name a running one (ps -e)")
        if "VmSize" not in status:  # it has no memory of its own
            raise UsageError(f"process {self._pid} is a thread of the kernel; name a program (ps -e)")
        try:
            os.readlink(self._proc / str(self._pid) / "ns" / "net")
            os.close(os.open(self._proc / str(self._pid) / "environ", os.O_RDONLY))
            os.stat(self._proc / str(self._pid) / "root" / ".")
        except PermissionError:
            raise UsageError(self._denied(status)) from None
        except OSError:
            raise UsageError(f"process {self._pid} has just ended; name a running one (ps -e)") from None
        self._check_namespaces()

    def _status(self) -> dict[str, str]:
        try:
            lines = (self._proc / str(self._pid) / "status").read_text(errors="replace").splitlines()
        except OSError:
            raise UsageError(f"there is no process {self._pid}; name a running one (ps -e)") from None
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    # Another network namespace of our own user namespace can be entered only with CAP_SYS_ADMIN; one of a user namespace
    # below ours that we own comes with it.
    def _check_namespaces(self) -> None:
        ours, theirs = self._proc / "self" / "ns", self._proc / str(self._pid) / "ns"
        try:
            entered = os.readlink(ours / "net") != os.readlink(theirs / "net")
            same_user_namespace = os.readlink(ours / "user") == os.readlink(theirs / "user")
        except OSError:
            return  # no such namespaces in this kernel; the agent will see
        if entered and same_user_namespace and not _has_capability(self._proc, _CAP_SYS_ADMIN):
            raise UsageError(
                f"process {self._pid} has a network namespace that only root can enter; run mirrord-trace with sudo"
            )

    def _denied(self, status: dict[str, str]) -> str:
        owner = status.get("Uid", "?").split()[0]
        if owner == str(os.geteuid()):
            return f"process {self._pid} has privileges of its own and may not be inspected; run mirrord-trace with sudo"
        return f"process {self._pid} belongs to user {owner}; run mirrord-trace as that user or with sudo"


_CAP_SYS_ADMIN = 21


def _has_capability(proc: Path, number: int) -> bool:
    for line in (proc / "self" / "status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
