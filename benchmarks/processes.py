"""CPU time and memory of processes, from proc(5)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Processes:
    """Some processes of this machine; those that have ended count as nothing."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = pids

    @staticmethod
    def named(*names: str) -> Processes:
        """All whose name (comm) is one of these."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "comm").read_text().strip() in names:
                        found.append(int(entry.name))
        return Processes(found)

    def cpu_s(self) -> float:
        """Seconds of CPU so far, user and system."""
        total = 0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total * _TICK_S


def resident_mib(pid: int) -> float:
    """What a process has in memory, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
