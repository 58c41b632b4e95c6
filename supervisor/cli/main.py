"""The command `mirrord-trace`.

Running a program is the tool's main job and has no subcommand of its own (`exec` is accepted for those who come from
mirrord); the other commands are told from a program's name by being the first word. Behind `--` nothing is interpreted.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from ..config.file import DEFAULT_PATH
from ..config.overlays import Flags
from ..errors import EXIT_OWN_FAILURE, EXIT_USAGE, UsageError

_COMMANDS = {
    "attach": "Put a running process into the context of a pod.",
    "ls": "List the targets of a namespace.",
    "doctor": "Check this machine and the cluster.",
    "explain": "Say where paths go, and which rule says so.",
    "bench": "Measure what supervision costs here.",
}
_EPILOG = """\b
Commands:
""" + "\n".join(f"  mirrord-trace {name:8} {text}" for name, text in _COMMANDS.items())

_EXIT_INTERRUPTED = 128 + signal.SIGINT


def _version() -> str:
    try:
        return version("mirrord-trace")
    except PackageNotFoundError:
        return "unknown"


@click.command(
    context_settings={"allow_interspersed_args": False, "help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
    options_metavar="-t TARGET [OPTIONS]",
)
@click.option("-t", "--target", metavar="TARGET", help="demo, pid/N or pod/NAME[/container/C].")
@click.option("-n", "--target-namespace", "namespace", metavar="NS", help="Namespace of the target; default: the context's.")
@click.option("--context", metavar="NAME", help="Context of the kubeconfig; default: the current one.")
@click.option("--kubeconfig", metavar="FILE", help="Default: KUBECONFIG, ~/.kube/config.")
@click.option("-c", "--accept-invalid-certificates", is_flag=True, default=None, help="Do not check the API server's.")
@click.option(
    "-f",
    "--config-file",
    metavar="[FILE]",
    is_flag=False,
    flag_value=DEFAULT_PATH,
    help=f"Default without FILE: {DEFAULT_PATH}.",
)
@click.option("-a", "--agent-namespace", metavar="NS", help="Where an agent pod is created; default: the target's.")
@click.option("-i", "--agent-image", metavar="IMAGE", help="An image with Python 3.9 or later.")
@click.option("--agent-startup-timeout", "agent_startup_timeout_s", type=float, metavar="SECONDS")
@click.option("-e/-E", "--ephemeral-container/--agent-pod", default=None, help="How the agent runs; default: as RBAC allows.")
@click.option("--fs-mode", type=click.Choice(["local", "localwithoverrides", "read", "write"]), help="Default: read.")
@click.option("--from-pod", is_flag=True, help="Run the pod's own program (or CMD, but the pod's), all files from the pod.")
@click.option("-s", "--override-env-vars-include", "env_include", metavar="GLOBS", help="Only these variables of the pod.")
@click.option("-x", "--override-env-vars-exclude", "env_exclude", metavar="GLOBS", help="All but these variables of the pod.")
@click.option("--env-file", metavar="FILE", help="Further variables, over the pod's.")
@click.option("--no-remote-dns", "remote_dns", flag_value=False, type=bool, default=None, help="Resolve names here.")
@click.option("--no-tcp-outgoing", "tcp_outgoing", flag_value=False, type=bool, default=None, help="TCP leaves from here.")
@click.option("--no-udp-outgoing", "udp_outgoing", flag_value=False, type=bool, default=None, help="UDP leaves from here.")
@click.option("--no-outgoing", is_flag=True, help="Both.")
@click.option(
    "--steal", is_flag=True, default=None,
    help="Take over the pod's ports on which CMD listens; default: a copy of their traffic.",
)  # fmt: skip
@click.option("--skip-processes", metavar="NAMES", help="Programs to leave alone, separated by ';'.")
@click.option("-k", "--key", metavar="KEY", help="The session's key, for templates in the configuration.")
@click.option("--engine", type=click.Choice(["ptrace", "notify", "auto"]), help="Default: ptrace, but notify for debuggers.")
@click.option("--trace", is_flag=True, help="Print each supervised call with its route and the reason.")
@click.option("--stats", is_flag=True, help="Print counts at the end: stops, round trips, bytes, time.")
@click.option("--stats-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write them as JSON.")
@click.version_option(_version(), prog_name="mirrord-trace")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- CMD [ARGS]...")
@click.pass_obj
def run_command(
    ignored: frozenset[int], /, command: tuple[str, ...], stats_file: Path | None, no_outgoing: bool, **given: object
) -> None:
    """Run a program on this machine as if it ran in a pod.

    CMD gets the pod's environment and hostname and reads its files; its connections leave from the pod, names are
    resolved there, and traffic for a port of the pod on which CMD listens comes to CMD. Any Linux program will do,
    static ones included: it is supervised by ptrace(2), nothing is loaded into it.
    """
    from .run import run

    if no_outgoing:
        given.update(tcp_outgoing=False, udp_outgoing=False)
    flags = Flags(**given)  # type: ignore[arg-type]  # click's option names are the field names
    sys.exit(run(flags, command, stats_file, ignored))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit status: CMD's; 2 wrong usage, 125 own failure, 126 not executable, 127 not found."""
    if sys.stderr is None:  # closed by the caller
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: click.Command = run_command
    name = "mirrord-trace"
    if words and words[0] in _COMMANDS:
        name += f" {words[0]}"
        command = getattr(importlib.import_module(f".{words[0]}", __package__), words.pop(0))
    elif words and words[0] == "exec":
        words.pop(0)
    try:
        # Without its standalone mode click returns the status of --help and of ctx.exit().
        sys.exit(command.main(words, prog_name=name, standalone_mode=False, obj=_heed_children()))
    except UsageError as error:
        _fail(f"mirrord-trace: {error.text}", error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort):
        _fail("mirrord-trace: interrupted", _EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_OWN_FAILURE)
    except Exception:
        # The program, if it runs, dies with its tracer (PTRACE_O_EXITKILL); the relay cleans up in the pod.
        traceback.print_exc()
        _fail("mirrord-trace: internal error; please report it with the lines above", EXIT_OWN_FAILURE)


def _heed_children() -> frozenset[int]:
    # Where SIGCHLD is ignored, the statuses of children are lost, and nothing tells of their end. What is reset here is
    # returned: the program must find it ignored again.
    was_ignored = signal.signal(signal.SIGCHLD, signal.SIG_DFL) == signal.SIG_IGN
    return frozenset({signal.SIGCHLD}) if was_ignored else frozenset()


def _fail(text: str, status: int) -> None:
    sys.stderr.write(text + "\n")
    sys.exit(status)
