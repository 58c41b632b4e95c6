"""``python3 -m tests.cluster up | down | status | kubeconfig [USER] | build``, from the repository's root."""

from __future__ import annotations

import argparse
import sys

from .components import USERS
from .images import build_images
from .layout import ClusterUnavailable, current_layout
from .lifecycle import check_machine, down, is_healthy, up
from .programs import fetch_programs


def main() -> int:
    """Progress goes to standard error, the path of the kubeconfig to standard output."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.cluster", description="A real Kubernetes for the tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="bring the cluster up; at once if it is up")
    commands.add_parser("down", help="take it down and leave nothing behind")
    commands.add_parser("status", help="exit 0 if it is up")
    commands.add_parser("build", help="only fill the cache: programs and images")
    kubeconfig = commands.add_parser("kubeconfig", help="print the path of a user's kubeconfig")
    kubeconfig.add_argument("user", nargs="?", default="full", choices=USERS)
    arguments = parser.parse_args()
    try:
        return _run(arguments)
    except ClusterUnavailable as reason:
        _say(str(reason))
        return 1


def _run(arguments: argparse.Namespace) -> int:
    layout = current_layout()
    if arguments.command == "up":
        up(layout, _say)
        print(layout.kubeconfig())
    elif arguments.command == "down":
        down(layout, _say)
    elif arguments.command == "build":
        check_machine(layout)
        fetch_programs(layout, _say)
        build_images(layout, _say)
    elif arguments.command == "kubeconfig":
        print(layout.kubeconfig(arguments.user))
    else:
        healthy = is_healthy(layout)
        print("up" if healthy else "down")
        return 0 if healthy else 1
    return 0


def _say(text: str) -> None:
    print(f"cluster: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
