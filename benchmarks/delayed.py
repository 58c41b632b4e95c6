"""mirrord-trace with a longer way to the agent, for targets on this machine.

    python -m benchmarks.delayed ROUND_TRIP_MS [OPTIONS] -- CMD...

All that is other than with `mirrord-trace` is the channel: between relay and agent there is a line (delay.py).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from typing import Any

from mirrord_trace.agent.pump.transport import SocketTransport, Transport
from mirrord_trace.supervisor.channel.base import Channel, LastWords
from mirrord_trace.supervisor.cli import main as command
from mirrord_trace.supervisor.cli import run
from mirrord_trace.supervisor.targets.base import Progress, Target

from .delay import delayed

_END_TIMEOUT_S = 5.0


class DelayedChannel:
    """Another channel, whose transport is a socket, with a line in between."""

    resumable = False

    def __init__(self, channel: Channel, one_way_s: float) -> None:
        self._channel = channel
        self._one_way_s = one_way_s
        self._line: subprocess.Popen[bytes] | None = None

    def open(self) -> Transport:
        """Open the other channel, and put the line before it."""
        transport = self._channel.open()
        far = socket.socket(fileno=os.dup(transport.fileno()))
        transport.close()
        far.setblocking(True)
        near, self._line = delayed(far, self._one_way_s)
        return SocketTransport(near)

    def last_words(self) -> str:
        """The other channel's."""
        return self._channel.last_words() if isinstance(self._channel, LastWords) else ""

    def close(self) -> None:
        """Close the other channel; the line ends with it."""
        self._channel.close()
        if self._line is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._line.wait(_END_TIMEOUT_S)
            self._line.kill()
            self._line.wait()


class DelayedTarget:
    """Another target, farther away."""

    def __init__(self, target: Target, one_way_s: float) -> None:
        self._target = target
        self._one_way_s = one_way_s
        self._channel: DelayedChannel | None = None

    @property
    def boot_secret(self) -> bytes:
        """The other target's."""
        return self._target.boot_secret

    def describe(self) -> str:
        """The other target."""
        return self._target.describe()

    def agent_target(self) -> dict[str, Any]:
        """The other target's."""
        return self._target.agent_target()

    def start(self, progress: Progress) -> Channel:
        """Start the other target."""
        self._channel = DelayedChannel(self._target.start(progress), self._one_way_s)
        return self._channel

    def stop(self) -> None:
        """Stop the other target, and the line."""
        self._target.stop()
        if self._channel is not None:
            self._channel.close()


def main() -> None:
    """As `mirrord-trace`, with the round trip's time in front."""
    one_way_s = float(sys.argv.pop(1)) / 2000
    near = run.target_of
    if one_way_s:
        run.target_of = lambda config: DelayedTarget(near(config), one_way_s)
    command.main()


if __name__ == "__main__":
    main()
