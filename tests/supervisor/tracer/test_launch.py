"""The program starts as if the shell had started it, or one line says why not."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.tracer import filter as seccomp
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.launch import Inherited, Start, launch
from rig import apart, supervise


@apart
@pytest.mark.parametrize(
    ("name", "mode", "status", "text"),
    [
        ("missing", None, 127, "No such file"),
        ("unmarked", 0o644, 126, "Permission denied"),
        ("broken", 0o755, 126, "Exec format error"),
        ("folder", "folder", 126, "Permission denied"),
        ("below/a/file", "below", 127, "Not a directory"),
    ],
)
def test_a_program_that_cannot_be_executed(tmp_path: Path, name: str, mode: int | str | None, status: int, text: str) -> None:
    path = tmp_path / name
    if mode == "folder":
        path.mkdir()
    elif mode == "below":
        (tmp_path / "below").write_text("")
    elif isinstance(mode, int):
        # An ELF header and nothing behind it, which is no text for a shell either.
        path.write_bytes(b"\x7fELF\x02\x01\x01\0" if name == "broken" else b"#!/bin/sh\n")
        path.chmod(mode)
    if name == "broken":
        path.write_bytes(b"#!" + bytes(tmp_path) + b"/no-such-interpreter\n")
        status, text = 127, "No such file"
    with pytest.raises(UsageError) as caught:
        supervise([str(path)])
    assert (caught.value.exit_status, str(path) in caught.value.text) == (status, True)
    assert text in caught.value.text


@apart
def test_a_name_that_is_nowhere_on_the_path() -> None:
    with pytest.raises(UsageError, match="is it on PATH") as caught:
        supervise(["no-such-program-anywhere"])
    assert caught.value.exit_status == 127


@apart
def test_text_without_an_interpreter_line_is_a_shell_script(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo from $0 $1; exit 5\n")
    script.chmod(0o755)
    done = supervise([str(script), "word"])
    assert done.output == f"from {script} word\n"
    assert done.end is not None
    assert done.end.exit_code == 5


@apart
def test_it_inherits_what_the_tool_found_not_what_it_made() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2})
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    program = """
import resource
say(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
os.execv('/bin/cat', ['cat', '/proc/self/status'])
"""
    done = supervise(program)
    limit, *lines = done.lines()
    status = dict(line.split(":\t", 1) for line in lines if line.startswith("Sig"))
    assert limit == "100"
    assert int(status["SigBlk"], 16) == 1 << signal.SIGUSR2 - 1
    # Python, which runs in between, ignores SIGPIPE and SIGXFSZ for itself.
    expected = {signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ}
    of_libc = 0b11 << 31  # 32 and 33, which Python can neither see nor set; whoever runs the tests may ignore them
    assert int(status["SigIgn"], 16) & ~of_libc == sum(1 << number - 1 for number in expected)


@apart
def test_a_native_program_finds_default_dispositions() -> None:
    done = supervise(["/bin/cat", "/proc/self/status"])
    status = dict(line.split(":", 1) for line in done.lines() if line.startswith("Sig"))
    assert int(status["SigIgn"], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1 | 1 << signal.SIGINT - 1) == 0
    assert int(status["SigBlk"], 16) == 0


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("trapped", ["", "PIPE", "PIPE XFSZ"])
def test_what_a_shell_ignores_the_program_ignores(shell: str, trapped: str) -> None:
    text = """if True:
        import sys
        sys.path.insert(0, sys.argv[1])
        from rig import supervise
        sys.stderr.write(supervise(["cat", "/proc/self/status"]).output)
    """
    command = f"trap '' {trapped or '0'}; \"$@\"; exit $?"
    python = [sys.executable, "-c", text, str(Path(__file__).parent)]
    done = subprocess.run([shell, "-c", command, shell, *python], capture_output=True, text=True, check=True)
    status = dict(line.split(":\t", 1) for line in done.stderr.splitlines() if line.startswith("Sig"))
    wanted = {getattr(signal, f"SIG{name}") for name in trapped.split()}
    of_python = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert int(status["SigIgn"], 16) & of_python == sum(1 << number - 1 for number in wanted)


@apart
def test_it_has_the_environment_and_no_descriptor_of_ours() -> None:
    inherited = {fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_inherited(fd)} | {0, 1, 2}
    done = supervise(
        ["/bin/sh", "-c", "echo $ONLY; ls /proc/$$/fd"], environment={b"ONLY": b"this", b"PATH": b"/usr/bin:/bin"}
    )
    only, *descriptors = done.lines()
    assert only == "this"
    assert {int(fd) for fd in descriptors} == inherited


def _is_inherited(fd: int) -> bool:
    with contextlib.suppress(OSError):
        return os.get_inheritable(fd)
    return False


@apart
def test_the_path_searched_is_the_programs_own(tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to("/bin/true")
    done = supervise(["mine"], environment={b"PATH": bytes(tmp_path)})
    assert done.end is not None
    assert done.end.exit_code == 0


@apart
def test_a_kernel_that_forbids_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(pid: int, options: int) -> None:
        raise PermissionError(errno.EPERM, "Yama")

    monkeypatch.setattr(ptrace, "seize", refused)
    with pytest.raises(UsageError, match="mirrord-trace doctor"):
        launch(Start(["/bin/true"], {}, (b"",)), Inherited.now())
    with pytest.raises(ChildProcessError):
        os.wait()


@apart
def test_a_kernel_that_refuses_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(code: bytes, *, no_new_privs: bool) -> None:
        raise OSError(errno.EINVAL, "seccomp")

    monkeypatch.setattr(seccomp, "install", refused)
    with pytest.raises(UsageError, match="cannot put the seccomp filter"):
        supervise(["/bin/true"], {})


@apart
def test_without_privilege_it_gives_up_new_privileges() -> None:
    done = supervise(["/bin/grep", "NoNewPrivs", "/proc/self/status"], {})
    # CAP_SYS_ADMIN, bit 21, in the effective set of this process.
    with open("/proc/self/status", encoding="ascii") as status:
        capable = any(line.startswith("CapEff") and int(line.split()[1], 16) >> 21 & 1 for line in status)
    assert done.output.split()[1] == ("0" if capable else "1")
