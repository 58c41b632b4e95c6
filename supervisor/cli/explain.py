"""`mirrord-trace explain PATH...`: where paths go, for reading and for writing, and which rule says so."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass

import click

from ...syscalls.actions import Decision, Reason, Route
from ...syscalls.files.place import normalise
from ...syscalls.path_rules import FsMode, PathRules
from ..config.file import DEFAULT_PATH
from ..config.load import Config, Machine, load
from ..config.overlays import Flags
from ..errors import UsageError

_ROUTES = {Route.LOCAL: "local", Route.REMOTE: "pod", Route.MISSING: "missing"}
_RELATIVE = Decision(Route.LOCAL, Reason.RELATIVE_PATH)


@dataclass(frozen=True)
class Way:
    """One way to use a path. `route`: local, pod or missing; `path`: the one that is used there, empty if missing."""

    route: str
    path: str
    reason: str
    pattern: str

    def text(self, asked: str) -> str:
        """For people; `asked` is the path as the user wrote it."""
        elsewhere = f":{self.path}" if self.path not in ("", asked) else ""
        pattern = f': "{self.pattern}"' if self.pattern else ""
        return f"{self.route}{elsewhere} ({self.reason}{pattern})"


@dataclass(frozen=True)
class Explained:
    """One path."""

    path: str
    read: Way
    write: Way

    def line(self) -> str:
        """For people."""
        return f"{self.path}  read: {self.read.text(self.path)}  write: {self.write.text(self.path)}"


@click.command("explain")
@click.option("-f", "--config-file", is_flag=False, flag_value=DEFAULT_PATH, help=f"Default without FILE: {DEFAULT_PATH}.")
@click.option("--fs-mode", type=click.Choice(["local", "localwithoverrides", "read", "write"]), help="Default: read.")
@click.option("--from-pod", is_flag=True, help="As for the pod's own program.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH...")
def explain(config_file: str | None, fs_mode: str | None, from_pod: bool, output: str, paths: tuple[str, ...]) -> None:
    """Say where PATHs go, for reading and for writing, and which rule decides. Needs no target and asks none."""
    flags = Flags(config_file=config_file, fs_mode=fs_mode, from_pod=from_pod)
    try:
        config = load(flags, Machine(os.environ, os.getcwdb()))
    except UsageError as error:
        click.echo(f"mirrord-trace: {error.text}", err=True)
        raise SystemExit(error.exit_status) from error
    found = explanations(config, paths)
    if output == "json":
        click.echo(json.dumps([asdict(explained) for explained in found], indent=2))
        return
    for explained in found:
        sys.stdout.write(_printable(explained.line()) + "\n")
    if config.auto_mount and not from_pod and config.policy.files.mode is not FsMode.LOCAL:
        text = "the pod's volumes are not looked at here: in a session they are read from the pod (feature.magic.auto_mount)"
        click.echo(f"mirrord-trace: {text}", err=True)


def explanations(config: Config, paths: tuple[str, ...]) -> list[Explained]:
    """What a session with `config` does with `paths`, but for the pod's volumes."""
    policy = config.policy
    rules = PathRules(policy.files, remote_names=policy.dns, remote_interfaces=policy.interfaces)
    return [Explained(path, _way(rules, path, False), _way(rules, path, True)) for path in paths]


def _way(rules: PathRules, path: str, write: bool) -> Way:
    asked = os.fsencode(path)
    if not asked.startswith(b"/"):
        return Way("local", path, _RELATIVE.reason.value, "")
    name, _ = normalise(asked)
    decision = rules.decide(name, write)
    used = "" if decision.route is Route.MISSING else os.fsdecode(decision.path or name)
    # The kernel takes a path that stays local as it was written.
    used = path if used == os.fsdecode(name) else used
    return Way(_ROUTES[decision.route], used, decision.reason.value, rules.pattern_of(name, decision))


# Any bytes may be in a name; they must not play with the terminal.
def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
