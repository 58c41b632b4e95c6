"""What is executed, with which arguments, environment and working directory: CMD of this machine, or the pod's own program."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...agent.wire.messages import FileStat, Pod
from ..environment import Dropped, merge_environment
from ..errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_USAGE, UsageError
from .load import Config

# execvp(3), where there is no PATH.
_DEFAULT_PATH = b"/bin:/usr/bin"


@dataclass(frozen=True)
class Program:
    """`dropped`: variables of the pod that it does not get.

    With --from-pod, `working_directory` and `candidates` are paths of the pod: where it starts, and where the file to
    execute may be, in the order of PATH. Else both are empty: it starts where the tool was started, and execvp(3) finds it.
    """

    arguments: tuple[str, ...]
    environment: Mapping[bytes, bytes]
    dropped: tuple[Dropped, ...] = ()
    working_directory: bytes = b""
    candidates: tuple[bytes, ...] = ()


def program(command: Sequence[str], pod: Pod, config: Config, own: Mapping[bytes, bytes]) -> Program:
    """What `command` (empty: the pod's own) comes to; `own` is this process's environment. Pure.

    UsageError if there is nothing to execute.
    """
    merged = merge_environment(own, pod.environ, config.env)
    if not config.from_pod:
        return Program(tuple(command), merged.variables, merged.dropped)
    arguments = tuple(command) or tuple(map(os.fsdecode, pod.arguments))
    if not arguments or not arguments[0]:
        raise UsageError("the pod's process shows no command line: give -- CMD ARGS after the options", EXIT_USAGE)
    directory = pod.working_directory
    found = _candidates(os.fsencode(arguments[0]), directory, merged.variables.get(b"PATH", _DEFAULT_PATH))
    return Program(arguments, merged.variables, merged.dropped, directory, found)


def _candidates(name: bytes, directory: bytes, path: bytes) -> tuple[bytes, ...]:
    folders = [b""] if b"/" in name else path.split(b":")
    return tuple(dict.fromkeys(os.path.join(directory, folder, name) for folder in folders))


def find_program(wanted: Program, look: Callable[[bytes], FileStat | None]) -> bytes:
    """The first of the candidates that can be executed; `look` is stat(2) in the pod, None where there is nothing.

    UsageError, with the exit status that a shell gives, if there is none.
    """
    status, why = EXIT_NOT_FOUND, "there is no such program in the pod"
    for path in wanted.candidates:
        found = look(path)
        if found is not None and stat.S_ISREG(found.mode):
            if found.mode & 0o111:
                return path
            status, why = EXIT_NOT_EXECUTABLE, "the pod's file is not executable"
    name = wanted.arguments[0]
    looked = ", ".join(os.fsdecode(os.path.dirname(path)) for path in wanted.candidates)
    hint = "" if "/" in name else f" (looked in {looked})"
    raise UsageError(f"cannot execute {name}: {why}{hint}; give another after --", status)
