"""`mirrord-trace [OPTIONS] -- CMD...`: run a program in the context of a pod."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...syscalls.path_rules import FsMode
from ..config.engine import is_debugger
from ..config.load import Config, Machine, load
from ..config.overlays import Flags
from ..config.target import DemoSpec, PodSpec, ProcessSpec
from ..descriptors import raise_limit
from ..errors import EXIT_USAGE, UsageError
from ..notify.availability import is_outranked
from ..relay.process import RelaySettings, start_relay
from ..session import Options, Session
from ..targets.base import Target
from ..tracer.doorbell import Doorbell
from ..tracer.launch import Inherited
from ..tracer.stops import Ended

_OUTRANKED = (
    "another supervisor is told of system calls first, and what it answers is not seen here: mirrord-trace --engine notify "
    "around this one, or a container's"
)


def run(flags: Flags, arguments: Sequence[str], stats_file: Path | None, ignored: frozenset[int] = frozenset()) -> int:
    """The exit status for the tool; dies by the program's signal if the program died by one. UsageError as it comes.

    `ignored`: signals that the caller ignores and the tool does not.
    """
    inherited = Inherited.now(ignored)
    raise_limit()
    occupy_standard_files()
    if not arguments and not flags.from_pod:
        raise UsageError("no command: give -- CMD ARGS after the options", EXIT_USAGE)
    executables = () if flags.from_pod else _executables(arguments)
    config = load(flags, Machine(os.environ, os.getcwdb(), executables))
    target = target_of(config)
    for warning in config.warnings:
        sys.stderr.write(f"mirrord-trace: warning: {warning}\n")
    if not config.engine.is_notify(arguments):
        Doorbell().remove()  # fails at once, and with the reason, where this process may not trace its children
        if is_outranked():
            sys.stderr.write(f"mirrord-trace: warning: {_OUTRANKED}\n")
    session = Session(config, Options(stats_file), start_relay(target, relay_settings(config)), inherited)
    return exit_status(session.run(arguments))


def occupy_standard_files() -> None:
    """Give 0, 1 and 2, where the caller closed them, to /dev/null, so that nothing of the tool's own gets there.

    Close-on-exec: the program finds them closed, as it would without the tool.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(fd)


def relay_settings(config: Config) -> RelaySettings:
    """What the relay is told of the configuration."""
    file_system = config.file_system
    if config.policy.files.mode is FsMode.LOCAL:
        file_system = replace(file_system, fuse="off")
    return RelaySettings(
        startup_timeout_s=config.agent.startup_timeout_s,
        temporary_directory=os.environ.get("TMPDIR"),
        dns=config.dns,
        file_system=file_system,
        policy_in=config.policy_in,
    )


# CMD and, if it is a debugger, the programs of this machine among its arguments: it reads what it executes.
def _executables(arguments: Sequence[str]) -> tuple[bytes, ...]:
    named = [word for word in arguments[1:] if "/" in word] if is_debugger(arguments[0]) else []
    found = [os.fsencode(program) for name in (arguments[0], *named) if (program := shutil.which(name))]
    return tuple(place(program) for program in found for place in (os.path.abspath, os.path.realpath))


def target_of(config: Config) -> Target:
    """What -t names, ready to be started."""
    spec = config.parsed_target()
    # Imported here: the Kubernetes client alone takes longer to import than everything else.
    if isinstance(spec, PodSpec):
        from ..targets.kubernetes.name import PodName
        from ..targets.kubernetes.target import KubernetesTarget

        return KubernetesTarget(PodName(spec.name, spec.container), config.kube, config.agent)
    if isinstance(spec, ProcessSpec):
        from ..targets.process import ProcessTarget

        return ProcessTarget(spec.pid)
    assert isinstance(spec, DemoSpec)
    from ..targets.demo.target import DemoTarget

    return DemoTarget()


def exit_status(end: Ended) -> int:
    """The tool's, for a program that has ended so; does not return if a signal did it."""
    if not end.signal:
        return end.exit_code
    # As the program ended, so ends the tool: the shell must see the same status. The core, if any, is the program's.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # SIGKILL, and 32 and 33, which are the C library's
        signal.signal(end.signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {end.signal})
    os.kill(os.getpid(), end.signal)
    return 128 + end.signal
