"""What the pod is like: environment, hostname, command line, addresses, volumes."""

from __future__ import annotations

import os
import socket

from .netlink import interface_addresses
from .target import Target
from .wire.messages import Pod

_HOSTNAME = b"HOSTNAME="


def pod(target: Target) -> Pod:
    """The reply to `GetPod`. Runs in the target's network namespace, and in its UTS namespace if that could be entered."""
    return Pod(
        environ=target.environ,
        hostname=_hostname(target),
        arguments=target.arguments,
        working_directory=target.working_directory,
        addresses=interface_addresses(),
        volumes=target.volumes,
    )


# In somebody else's UTS namespace the name is wrong; container runtimes have put the right one into the environment.
def _hostname(target: Target) -> bytes:
    own = os.fsencode(socket.gethostname())
    try:
        ours = os.readlink(f"/proc/{target.pid}/ns/uts") == os.readlink("/proc/self/ns/uts")
    except OSError:
        ours = True
    told = [entry[len(_HOSTNAME) :] for entry in target.environ if entry.startswith(_HOSTNAME)]
    return own if ours or not told else told[-1]
