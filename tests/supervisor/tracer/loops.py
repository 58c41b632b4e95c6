"""Which innermost loop the programs of tests run under, on either engine, and as much of a context as loops look at."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from mirrord_trace.supervisor.tracer import arch as machines
from mirrord_trace.supervisor.tracer.compiled import Compiled, library
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.known import Directories, KnownPaths, PathSet
from mirrord_trace.syscalls.net.sockets import Sockets
from mirrord_trace.syscalls.quick import Quick

in_use = ["python"]
"""What `rig.supervise` and `notified.supervise` use; the fixture `both_loops` sets it."""


@pytest.fixture(params=["python", "compiled"])
def both_loops(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test runs twice: under the loop in Python, and the compiled one."""
    if request.param == "compiled" and library() is None:
        pytest.skip("the compiled loop was not built: install gcc, then make setup")
    in_use[0] = request.param
    yield
    in_use[0] = "python"


def nothing(notices: list[str]) -> Context:
    """For handlers that need no context. `notices` collects the lines for the user."""
    return cast(
        Context,
        SimpleNamespace(
            policy=SimpleNamespace(local_trees=lambda: ()),
            mount=None,
            objects=(),
            sockets=Sockets(),
            local_reads=KnownPaths(),
            local_writes=KnownPaths(),
            plain_paths=PathSet(),
            directories=Directories(),
            local_addresses=PathSet(),
            notice=lambda key, text: notices.append(text),
        ),
    )


def chosen_loop(context: Context, checks: Mapping[int, Quick]) -> Compiled | None:
    """The compiled loop, if that is in use."""
    if in_use[0] == "python":
        return None
    built = library()
    assert built is not None
    return Compiled(built, context, checks, machines.native().audit)


def fuzz(source: Path, folder: Path, seed: int) -> None:
    """Run a program around the compiled loop's source for two seconds, under sanitizers. It tells how much it has done."""
    gcc = shutil.which("gcc")
    assert gcc, "install gcc"
    program = folder / "fuzz"
    options = ["-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([gcc, *options, "-o", program, source], check=True)
    done = subprocess.run([program, str(seed), "2"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 0
