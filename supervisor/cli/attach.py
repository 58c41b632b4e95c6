"""`mirrord-trace attach -t TARGET PID`: put a running process into the context of a pod, and let it go again."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from ..attach.process import examine
from ..attach.session import AttachSession
from ..config.load import Machine, load
from ..config.overlays import Flags
from ..descriptors import raise_limit
from ..relay.process import start_relay
from ..session import Options
from ..tracer.doorbell import Doorbell
from ..tracer.launch import Inherited
from .main import run_command
from .run import exit_status, occupy_standard_files, relay_settings, target_of

_FOR_NEW_PROGRAMS = {"from_pod", "env_include", "env_exclude", "env_file", "skip_processes", "version"}


@click.command(
    "attach",
    params=[
        option
        for option in run_command.params
        if isinstance(option, click.Option) and option.name not in _FOR_NEW_PROGRAMS
    ],
    context_settings={**run_command.context_settings, "allow_interspersed_args": True},
    options_metavar="-t TARGET [OPTIONS]",
)
@click.argument("pid", type=int, metavar="PID")
def attach(pid: int, stats_file: Path | None, no_outgoing: bool, **given: object) -> None:
    """Put a running process, its threads and its descendants into the context of a pod, until Ctrl-C.

    Files and connections that it opens from then on are the pod's; what it has open stays as it is, and so does its
    environment. It is then let go and runs on. Exit status: 0 then; PID's own if it ends before.
    """
    if no_outgoing:
        given.update(tcp_outgoing=False, udp_outgoing=False)
    sys.exit(run_attached(Flags(**given), pid, stats_file))  # type: ignore[arg-type]  # as in run_command


def run_attached(flags: Flags, pid: int, stats_file: Path | None) -> int:
    """The exit status for the tool; dies by the process's signal if that died by one. UsageError as it comes."""
    inherited = Inherited.now()
    raise_limit()
    occupy_standard_files()
    config = load(flags, Machine(os.environ, os.getcwdb(), (_program(pid),)))
    target = target_of(config)
    examine(pid)
    for warning in config.warnings:
        sys.stderr.write(f"mirrord-trace: warning: {warning}\n")
    Doorbell().remove()  # fails at once, and with the reason, where this process may not trace at all
    settings = replace(relay_settings(config), outlived_by_users=True)
    session = AttachSession(config, Options(stats_file), start_relay(target, settings), inherited)
    end = session.attach(pid)
    return 0 if end is None else exit_status(end)


def _program(pid: int) -> bytes:
    try:
        return os.readlink(f"/proc/{pid}/exe".encode())
    except OSError:
        return b""
