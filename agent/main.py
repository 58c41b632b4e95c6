"""The agent's start, once the bootstrap has brought it here: find the target, enter it, fork under a guard, serve."""

from __future__ import annotations

import contextlib
import errno
import os
import pkgutil
import resource
import socket
import traceback
from typing import Optional, Union

from . import redirect, target
from .guard import run_guarded
from .options import Options
from .service import Service


def boot(sock: socket.socket, listener: Optional[socket.socket]) -> int:
    """What the loader calls; the options are in the payload, next to this package."""
    encoded = pkgutil.get_data(__package__ or "", "options.json")
    assert encoded is not None, "a payload always has options"
    return main(sock, listener, Options.decode(encoded))


def main(sock: socket.socket, listener: Optional[socket.socket], options: Options) -> int:
    """Serve the client at the other end of `sock`; returns the exit status when all is cleaned up.

    `listener`: where the client may come back to after its transport broke. None: the end of `sock` is the end. If the
    target is not to be had, the agent still starts, to tell the client why at its first request. The process must have
    no other threads.
    """
    _raise_descriptor_limit()
    found = _find_target(options)
    name = redirect.new_name()
    marks_reader, marks_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def work() -> int:
        os.close(marks_reader)
        redirect.remove_stale_rules()
        os.umask(0)  # modes come from the client, whose kernel has applied the program's
        return Service(options, found, listener, name, lambda: _mark(marks_writer)).run(sock)

    def detach() -> None:
        os.close(marks_writer)
        sock.close()
        if listener is not None:
            listener.close()

    def cleanup() -> None:
        if os.read(marks_reader, 1):
            redirect.remove_rules(name)

    return run_guarded(work, cleanup, detach)


# The guard looks for rules only if there can be any: `_mark` says so before the first is made.
def _mark(writer: int) -> None:
    os.write(writer, b"r")


def _find_target(options: Options) -> Union[target.Target, target.TargetError]:
    try:
        found = target.open_target(options)
        target.enter_namespaces(found.pid)
        return target.with_credentials(found)
    except target.TargetError as error:
        return error
    except Exception as error:
        traceback.print_exc()
        return target.TargetError(errno.EIO, f"internal error in the agent: {error!r}")


# Every connection costs the agent a descriptor: take as many as are allowed.
def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
